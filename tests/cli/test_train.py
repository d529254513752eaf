"""``fathom train``, as people call it: a short run, its picture, going on with it, and what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fathom.cli import main
from fathom.recursive.checkpoint import load_checkpoint, load_state

SMALL = [
    "queens-8",
    *("--size", "micro", "--set", "width=16", "--set", "heads=2", "--set", "ffn=16", "--set", "mixer=8"),
    *("--set", "batch=4", "--set", "validation_inputs=4", "--set", "head_steps=2"),
]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def fathom(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit status of ``fathom`` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["fathom", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_run_ends_with_a_checkpoint_its_metrics_and_a_picture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert fathom(monkeypatch, "train", *SMALL, "--steps", "3", "--seed", "4", "-o", str(folder), "--json") == 0
    told = capsys.readouterr()
    made = json.loads(told.out)
    assert made["step"] == 3
    assert 0 <= made["accuracy"] <= 1
    assert "step 3: cross-entropy" in told.err
    assert "KL of the first step" in told.err
    checkpoint = load_checkpoint(Path(made["checkpoint"]), task="queens-8")
    assert checkpoint.training.seed == 4
    assert checkpoint.model.config.width == 16
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_is_gone_on_with_only_where_that_is_said_and_only_with_its_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", *SMALL, "-o", str(tmp_path), "--curves", str(tmp_path / "mine.svg")]
    assert fathom(monkeypatch, *command, "--minutes", "0.02") == 0
    first = (tmp_path / "checkpoint.safetensors").read_bytes()
    assert "<svg" in (tmp_path / "mine.svg").read_text()
    assert fathom(monkeypatch, *command, "--minutes", "0.02") == 2
    assert "holds a run already" in capsys.readouterr().err
    # The number of steps that the minutes came to is the run's own, whatever the machine's speed is now.
    assert fathom(monkeypatch, *command, "--minutes", "9", "--resume") == 0
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == first
    capsys.readouterr()
    assert fathom(monkeypatch, *command, "--resume", "--set", "beta=0.7") == 2
    assert "beta 0.3 instead of 0.7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["queen-8"], "unknown task 'queen-8'. Did you mean 'queens-8'?"),
        (["arc"], "name them, as in arc:PATH"),
        (["arc:absent.json"], "absent.json is no ARC file"),
        (["mnist:absent.npz"], "absent.npz holds no MNIST pictures"),
        (["sudoku-extreme:absent.csv"], "absent.csv is absent or no file"),
        (["queens-8", "--preset", "tmr"], "unknown preset 'tmr'. Did you mean 'trm'?"),
        (["queens-8", "--preset", "ptrm"], "recursive:PATH(noise=0.6)"),
        (["queens-8", "--size", "huge"], "unknown size 'huge'"),
        (["queens-8", "--set", "widht=3"], "unknown setting 'widht'. Did you mean 'width'?"),
        (["queens-8", "--set", "width=wide"], "width is of type int, not 'wide'"),
        (["queens-8", "--set", "width=true"], "width is of type int, not True"),
        (["queens-8", "--set", "beta=NaN"], "beta must be a finite number"),
        (["queens-8", "--set", "mixing=spoon"], "unknown value of mixing 'spoon'"),
        (["queens-8", "--set", "width"], "NAME=VALUE"),
        (["queens-8", "--steps", "0"], "steps of a training run must be at least 1"),
        (["queens-8", "--minutes", "0"], "must be positive"),
        (["queens-8", "--minutes", "1", "--steps", "5"], "not in both"),
        (["queens-8", "--device", "gpu"], "unknown device 'gpu'"),
        (["queens-8", "--curves", "c.bmp"], "ends in .png"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    assert fathom(monkeypatch, "train", *arguments, "-o", str(tmp_path / "run")) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert told.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_ctrl_c_saves_the_run(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from fathom.cli import main; main()", "train", *SMALL, "-o", str(tmp_path)]
    running = subprocess.Popen([*command, "--steps", "100000"], stderr=subprocess.PIPE, text=True)
    history = tmp_path / "history.jsonl"
    while not history.exists():
        assert running.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    running.send_signal(signal.SIGINT)
    assert running.stderr is not None
    assert "--resume goes on with the run" in running.stderr.read()
    assert running.wait() == 130
    assert load_state(tmp_path / "state-0.safetensors")["trainer"]["step"] > 0
