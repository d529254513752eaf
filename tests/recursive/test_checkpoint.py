from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import tiny

from fathom.errors import ModelFileError, UnknownModel
from fathom.recursive.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fathom.recursive.library import find_checkpoint
from fathom.recursive.model import RecursiveModel


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


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownModel, match="unknown recursive checkpoint 'nothing'"):
        find_checkpoint("nothing")
