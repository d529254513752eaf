from __future__ import annotations

import json
import math
import resource
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_models import tiny

from fathom.errors import ModelFileError, UnknownModel
from fathom.recursive.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fathom.recursive.library import find_checkpoint
from fathom.recursive.model import RecursiveModel
from fathom.recursive.tasks.queens import Queens


@pytest.fixture
def file(model: RecursiveModel, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(Checkpoint("queens-8", model, tiny()[1], 7, {"halt_threshold": 0.9}), path, torch.float32)
    return path


def test_a_checkpoint_comes_back_as_it_was_saved(file: Path, model: RecursiveModel) -> None:
    loaded = load_checkpoint(file)
    assert (loaded.task, loaded.step, loaded.halt_threshold) == ("queens-8", 7, 0.9)
    assert loaded.model.config == model.config
    x = torch.zeros(2, 64, dtype=torch.long)
    ours, theirs = (m.supervision_step(m.start(2), m.encode(x)).state.h for m in (model, loaded.model))
    assert torch.equal(ours, theirs)
    assert not list(file.parent.glob("*.tmp"))


@pytest.mark.parametrize("kept", [0, 7, 100, 5000])
def test_a_truncated_file_is_one_clear_error(file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelFileError, match="missing or damaged"):
        load_checkpoint(file)


def test_files_of_another_kind_task_or_version_are_refused(file: Path) -> None:
    with pytest.raises(ModelFileError, match="missing"):
        load_checkpoint(file.with_name("absent.safetensors"))
    with pytest.raises(ModelFileError, match="trained for 'queens-8'"):
        load_checkpoint(file, task="sudoku-6")
    weights = load_file(file)
    save_file(weights, file)
    with pytest.raises(ModelFileError, match="no recursive checkpoint"):
        load_checkpoint(file)
    save_file(weights, file, {"fathom": json.dumps({"version": 99})})
    with pytest.raises(ModelFileError, match="version 99"):
        load_checkpoint(file)
    save_file(weights, file, {"fathom": json.dumps({"version": 1, "task": "queens-8"})})
    with pytest.raises(ModelFileError, match="do not form a model"):
        load_checkpoint(file)


def damaged(file: Path, part: str, name: str, value: object) -> None:
    """Let the file say something else of itself; its weights stay."""
    with safe_open(file, "pt") as opened:
        about = json.loads(opened.metadata()["fathom"])
    if name:
        about[part][name] = value
    else:
        about[part] = value
    save_file(load_file(file), file, {"fathom": json.dumps(about)})


@pytest.mark.parametrize(
    ("part", "name", "value", "says"),
    [
        ("model", "width", 30_000, "at most 16384, not 30000"),
        ("model", "layers", 10**8, "at most 64"),
        ("model", "inner", 10**12, "blocks; at most"),
        ("model", "transitions", 10**30, "astronomical"),
        ("model", "supervision", 0, "at least 1"),
        ("model", "registers", -70, "at least 0"),
        ("model", "heads", 3.0, "heads is of type int"),
        ("model", "width", True, "width is of type int"),
        ("model", "mixing", ["sequence"], "unknown value of mixing"),
        ("model", "start_sigma", 0.0, "above 0"),
        ("model", "noise", math.nan, "finite"),
        ("model", "colour", 1, "unknown setting 'colour'"),
        ("model", "", [1, 2], "do not form a model"),
        ("shape", "length", 10**12, "at most"),
        ("shape", "symbols_in", "two", "of type int"),
        ("training", "learning_rate", math.inf, "finite"),
        ("training", "batch", None, "batch is of type int"),
        ("metrics", "halt_threshold", "often", "halt_threshold is 'often'"),
        ("metrics", "halt_threshold", math.nan, "halt_threshold is nan"),
        ("metrics", "halt_threshold", 1.5, "halt_threshold is 1.5"),
        ("metrics", "halt_depth", -3, "halt_depth is -3"),
        ("metrics", "halt_depth", 10**400, "halt_depth is 1000"),
        ("metrics", "lengthened", [[3]], "lengthened"),
        ("metrics", "", 7, "no table"),
        ("step", "", "many", "number of steps"),
        ("task", "", 8, "a task's name"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_one_clear_error(
    file: Path, part: str, name: str, value: object, says: str
) -> None:
    damaged(file, part, name, value)
    with pytest.raises(ModelFileError, match="do not form a model") as refused:
        load_checkpoint(file)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_nothing_is_allocated_for_weights_that_the_file_does_not_hold(file: Path) -> None:
    damaged(file, "model", "width", 4096)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelFileError, match=r"\[2, 16\] in place of \[2, 4096\]"):
        load_checkpoint(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes; the weights have 10⁶


def test_missing_further_misshapen_and_endless_weights_are_named(file: Path) -> None:
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    whole = load_file(file)
    for name, weight, says in (
        ("further", torch.zeros(3), r"further is \[3\] in place of absent"),
        ("l0", None, "l0 is absent in place of"),
        ("h0", whole["h0"].T.contiguous(), "h0 is"),
        ("h0", whole["h0"].clone().fill_(math.nan), "h0 holds what is no finite number"),
    ):
        weights = {**whole, name: weight}
        save_file({n: w for n, w in weights.items() if w is not None}, file, metadata)
        with pytest.raises(ModelFileError, match=says):
            load_checkpoint(file)
    save_file(whole, file, {"fathom": "[" * 100_000})
    with pytest.raises(ModelFileError, match="damaged"):
        load_checkpoint(file)


@pytest.mark.parametrize("positions", ["rope", "learned"])
@pytest.mark.parametrize("preset", ["gram", "trm"])
def test_a_loaded_model_computes_the_same_bits_and_shares_nothing_with_another(
    tmp_path: Path, queens: Queens, preset: str, positions: str
) -> None:
    config, training = tiny(preset, mixing="attention", positions=positions)
    model, path = RecursiveModel(config, queens.shape).eval(), tmp_path / "m.safetensors"
    save_checkpoint(Checkpoint("queens-8", model, training, 7), path, torch.float32)
    first, second = load_checkpoint(path).model, load_checkpoint(path).model
    with torch.no_grad():
        first.h0.zero_()
        first.high[0].feed.up.weight.zero_()
    x = queens.inputs("test")[:3]
    ours, theirs = (m.supervision_step(m.start(3), m.encode(x)).state.h for m in (model, second))
    assert torch.equal(ours, theirs)
    for own, loaded in zip(model.buffers(), second.buffers(), strict=True):
        assert torch.equal(own, loaded)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownModel, match="unknown recursive checkpoint 'nothing'"):
        find_checkpoint("nothing")
