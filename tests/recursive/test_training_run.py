"""Runs in folders: killed for real, resumed, refused, stopped; alone and side by side."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from small_models import elastic, tiny

from fathom.errors import FathomError, InputError, LimitError, UsageError
from fathom.recursive.checkpoint import load_checkpoint, load_state, save_state
from fathom.recursive.distributed import cuda_device
from fathom.recursive.tasks.queens import Queens
from fathom.recursive.training_run import PACED, Progress, history_of, paced, settings_of_run, train

SCRIPT = """
import signal, sys, torch
from pathlib import Path
from fathom.recursive.tasks.queens import Queens
from fathom.recursive.training import Trainer
from fathom.recursive.training_run import train
from fathom.recursive.distributed import World
from small_models import elastic, tiny
torch.set_num_threads(1)
mode, out = sys.argv[1], Path(sys.argv[2])
until = int(sys.argv[3]) if len(sys.argv) > 3 else 10**9

def wait_to_be_killed(now):
    if now.done >= until:
        signal.pause()

if mode == "train":
    train(Queens(6), *tiny(steps=60, save_every=0.0, validate_every=10, head_steps=30), out, progress=wait_to_be_killed)
elif mode == "elastic":
    train(Queens(6), *tiny(**elastic), out, progress=wait_to_be_killed)
elif mode == "step":
    world = World.from_environment()
    trainer = Trainer(Queens(6), *tiny(), world=world)
    for _ in range(3):
        trainer.advance()
    if world.rank == 0:
        torch.save(trainer.model.state_dict(), out)
"""


def run(arguments: list[str]) -> subprocess.Popen[bytes]:
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "PYTHONPATH": f"{here}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen([sys.executable, *arguments], env=environment)


def lives(process: psutil.Process) -> bool:
    """Whether it still does anything; who was adopted may wait for ever for somebody to ask how it ended."""
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return True
        return process.num_threads() > 1  # the first of its threads has ended; the others still hold its files
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    return file


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_that_was_killed_twice_ends_as_the_one_that_was_not(script: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    validated = [0]
    for until in (25, 45):  # where it is not killed before, it waits for it there
        victim = run([str(script), "train", str(killed), str(until)])
        while not (killed / "history.jsonl").exists() or len(history_of(killed)) == validated[-1]:
            assert victim.poll() is None
            time.sleep(0.01)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        validated.append(len(history_of(killed)))
    assert 0 < validated[1] < validated[2] <= 4
    assert not (killed / "checkpoint.safetensors").exists()
    for out in ("killed", "whole"):
        assert run([str(script), "train", str(tmp_path / out)]).wait() == 0
    assert (killed / "checkpoint.safetensors").read_bytes() == (tmp_path / "whole/checkpoint.safetensors").read_bytes()
    assert [entry["step"] for entry in history_of(killed)] == [10, 20, 30, 40, 50, 60]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_processes_take_the_step_of_one(script: Path, tmp_path: Path) -> None:
    assert run([str(script), "step", str(tmp_path / "one.pt")]).wait() == 0
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    assert run([*launch, str(script), "step", str(tmp_path / "two.pt")]).wait() == 0
    one, two = (torch.load(tmp_path / f"{name}.pt") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_of_two_processes_that_was_killed_goes_on_with_one_or_three(script: Path, tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    victim = run([*launch, "2", str(script), "elastic", str(killed), "25"])  # and no farther
    while not (killed / "history.jsonl").exists() or not history_of(killed):
        assert victim.poll() is None
        time.sleep(0.01)
    everyone = [psutil.Process(victim.pid), *psutil.Process(victim.pid).children(recursive=True)]
    for process in everyone:
        process.kill()
    victim.wait()
    while any(lives(process) for process in everyone):
        time.sleep(0.01)
    assert [file.name for file in killed.glob("state-*.safetensors")] == ["state-0.safetensors"]
    state = load_state(killed / "state-0.safetensors")
    assert 10 <= state["trainer"]["step"] < elastic["steps"]
    assert {len(rows) for rows in state["trainer"]["slots"].values()} == {elastic["batch"]}
    shutil.copytree(killed, tmp_path / "three")
    one = train(Queens(6), *tiny(**elastic), killed)
    assert run([*launch, "3", str(script), "elastic", str(tmp_path / "three")]).wait() == 0
    three = load_checkpoint(tmp_path / "three" / "checkpoint.safetensors")
    whole = train(Queens(6), *tiny(**elastic), tmp_path / "whole")
    for other in (three, whole):
        assert other.step == one.step == elastic["steps"]
        for name, weight in one.model.state_dict().items():
            torch.testing.assert_close(other.model.state_dict()[name], weight, rtol=0.02, atol=0.02)
    for folder in ("killed", "three", "whole"):
        assert [entry["step"] for entry in history_of(tmp_path / folder)] == [10, 20, 30, 40]


def test_a_state_of_half_of_the_slots_is_refused(tmp_path: Path) -> None:
    settings = tiny(steps=3)
    with pytest.raises(KeyboardInterrupt):
        train(Queens(6), *settings, tmp_path, stop=_Stops(0))
    state = load_state(tmp_path / "state-0.safetensors")
    state["trainer"]["slots"]["h"] = state["trainer"]["slots"]["h"][:8]
    save_state(state, tmp_path / "state-0.safetensors")
    with pytest.raises(InputError, match="holds 8 of 16 slots"):
        train(Queens(6), *settings, tmp_path)


def test_each_process_of_a_machine_has_a_device_of_its_own() -> None:
    assert cuda_device({}, 1) == "cuda:0"
    assert [cuda_device({"LOCAL_RANK": str(local), "RANK": "9"}, 4) for local in range(4)] == [
        f"cuda:{local}" for local in range(4)
    ]
    with pytest.raises(UsageError, match="process 3 of this machine has no CUDA device"):
        cuda_device({"LOCAL_RANK": "2"}, 2)


class _Stops:
    """Says stop after so many times of asking."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("after", [0, 3, 5, 6])
def test_a_stopped_run_goes_on_in_training_and_in_fitting_its_heads(tmp_path: Path, after: int) -> None:
    task, settings = Queens(6), tiny(steps=4, validate_every=2, head_steps=30, save_every=1e9)
    train(task, *settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(task, *settings, tmp_path / "stopped", stop=_Stops(after))
    assert not (tmp_path / "stopped" / "checkpoint.safetensors").exists()
    seen: list[Progress] = []
    train(task, *settings, tmp_path / "stopped", progress=seen.append)
    # Four steps and three roll-outs; what was done before it stopped is not done again.
    assert len(seen) == 7 - (after + 1)
    whole, stopped = (tmp_path / name / "checkpoint.safetensors" for name in ("whole", "stopped"))
    assert whole.read_bytes() == stopped.read_bytes()


def test_train_leaves_a_checkpoint_with_its_metrics_and_tells_how_it_goes(tmp_path: Path) -> None:
    seen: list[Progress] = []
    made = train(Queens(6), *tiny(steps=4, validate_every=2), tmp_path, progress=seen.append)
    loaded = load_checkpoint(tmp_path / "checkpoint.safetensors", task="queens-6")
    assert [(now.stage, now.done, now.total, now.validated is not None) for now in seen] == [
        ("training", 1, 4, False),
        ("training", 2, 4, True),
        ("training", 3, 4, False),
        ("training", 4, 4, True),
        ("heads", 4, 4, False),
    ]
    assert {"reconstruction", "kl_first_step"} <= seen[0].averages.keys()
    assert [now.validated for now in seen if now.validated] == history_of(tmp_path)
    assert loaded.training == made.training
    assert loaded.step == 4
    assert 0.5 <= loaded.halt_threshold <= 1
    for name, tensor in made.model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], tensor, rtol=1e-3, atol=1e-3)


def test_a_finished_run_ends_again_at_once_with_the_same_checkpoint(tmp_path: Path) -> None:
    settings = tiny(steps=2)
    train(Queens(6), *settings, tmp_path)
    first = (tmp_path / "checkpoint.safetensors").read_bytes()
    seen: list[Progress] = []
    train(Queens(6), *settings, tmp_path, progress=seen.append)
    assert seen == []
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == first


@pytest.mark.parametrize("after", [1, None])
def test_a_run_is_lengthened_to_what_it_would_have_been_at_once(tmp_path: Path, after: int | None) -> None:
    task, constant = Queens(6), {"validate_every": 2, "head_steps": 24, "decay_from": 1.0, "warmup": 1}
    whole = train(task, *tiny(steps=6, **constant), tmp_path / "whole")
    if after is None:
        train(task, *tiny(steps=4, **constant), tmp_path / "longer")
    else:
        with pytest.raises(KeyboardInterrupt):
            train(task, *tiny(steps=4, **constant), tmp_path / "longer", stop=_Stops(after))
    longer = train(task, *tiny(steps=6, **constant), tmp_path / "longer")
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, longer.model.state_dict()[name]), name
    at = 4 if after is None else after + 1
    assert longer.metrics == {**whole.metrics, "lengthened": [(at, 4)]}
    with pytest.raises(InputError, match="steps 6 instead of 5"):
        train(task, *tiny(steps=5, **constant), tmp_path / "longer")


def test_a_folder_with_a_run_of_other_settings_is_refused_by_their_names(tmp_path: Path) -> None:
    model, training = tiny(steps=1)
    train(Queens(6), model, training, tmp_path)
    with pytest.raises(InputError, match=r"beta 0\.3 instead of 0\.9, seed 0 instead of 5"):
        train(Queens(6), model, replace(training, beta=0.9, seed=5), tmp_path)
    with pytest.raises(InputError, match="task queens-6 instead of queens-5"):
        train(Queens(5), model, training, tmp_path)
    train(Queens(6), model, replace(training, save_every=1.0), tmp_path)
    found = settings_of_run(tmp_path)
    assert found is not None
    assert (found["task"], found["steps"]) == ("queens-6", 1)
    assert settings_of_run(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("damage", ["cut", "other", "emptied", "unsettled"])
def test_a_damaged_state_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    settings = tiny(steps=1)
    train(Queens(6), *settings, tmp_path)
    state = tmp_path / "state-0.safetensors"
    save_state({**load_state(state), "settings": {"steps": "many"}}, tmp_path / "unsettled")
    state.write_bytes(
        {
            "cut": state.read_bytes()[:-100],
            "other": (tmp_path / "checkpoint.safetensors").read_bytes(),
            "emptied": b"",
            "unsettled": (tmp_path / "unsettled").read_bytes(),
        }[damage]
    )
    with pytest.raises(InputError, match=r"state-0\.safetensors is no .*state.*Remove it to start over"):
        train(Queens(6), *settings, tmp_path)


def test_a_full_disk_keeps_the_last_state_and_is_one_clear_error(tmp_path: Path) -> None:
    model, training = tiny(steps=3, save_every=0.0)
    with pytest.raises(KeyboardInterrupt):
        train(Queens(6), model, training, tmp_path, stop=_Stops(0))
    before = (tmp_path / "state-0.safetensors").read_bytes()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(FathomError, match="could not be written"):
            train(Queens(6), model, training, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert (tmp_path / "state-0.safetensors").read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))
    assert train(Queens(6), model, training, tmp_path).step == 3


def test_one_process_at_a_time_trains_in_a_folder(tmp_path: Path) -> None:
    settings = tiny(steps=1)

    def intrude(_: Progress) -> None:
        with pytest.raises(UsageError, match="another process is training"):
            train(Queens(6), *settings, tmp_path)

    train(Queens(6), *settings, tmp_path, progress=intrude)


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used as the folder"):
        train(Queens(6), *tiny(steps=1), tmp_path / "file")


def test_minutes_become_steps_once_and_more_minutes_more_of_them() -> None:
    model, training = tiny(head_steps=600)
    short, long = (paced(seconds, Queens(6), model, training, "cpu", False) for seconds in (0.5, 200.0))
    assert 8 <= short.steps < long.steps
    assert short.head_steps < long.head_steps <= 600
    assert short.validate_every <= short.steps
    assert replace(long, **{name: getattr(training, name) for name in PACED}) == training
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(LimitError, match="must be positive"):
            paced(wrong, Queens(6), model, training, "cpu", False)
