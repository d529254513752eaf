from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_models import tiny

from fathom.errors import InputError, LimitError
from fathom.recursive import ema
from fathom.recursive.checkpoint import load_checkpoint
from fathom.recursive.distributed import World
from fathom.recursive.tasks import Task
from fathom.recursive.tasks.coloring import Coloring
from fathom.recursive.tasks.digits import Digits
from fathom.recursive.tasks.maze import Maze
from fathom.recursive.tasks.queens import Queens
from fathom.recursive.tasks.sudoku import Sudoku, SudokuKind
from fathom.recursive.tasks.sudoku_solver import Grid
from fathom.recursive.training import Trainer, learning_rate, train


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [
        *trainer.model.state_dict().values(),
        *trainer.average.state_dict().values(),
        trainer.slots.h,
        trainer.slots.y,
    ]


@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        ("gram", {}),
        ("gram", {"mode": "paper", "transitions": 2, "early": "prior"}),
        ("trm", {}),
        ("hrm", {}),
        ("looped", {}),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    queens: Queens, preset: str, overrides: dict[str, object]
) -> None:
    settings = tiny(preset, **overrides)
    whole, first, second = (Trainer(queens, *settings) for _ in range(3))
    for _ in range(6):
        whole.advance()
    whole.validate()
    for _ in range(3):
        first.advance()
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        second.advance()
    second.validate()
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))
    assert whole.history == second.history


def test_training_lowers_the_loss_and_prior_roll_outs_are_what_is_logged(queens: Queens) -> None:
    trainer = Trainer(queens, *tiny(learning_rate=3e-3, batch=32))
    trainer.advance()
    before = trainer.validate()
    for _ in range(40):
        trainer.advance()
    after = trainer.validate()
    assert after["reconstruction"] < 0.75 * before["reconstruction"]
    assert {"kl_first_step", "accuracy", "coverage", "accuracy_first_step", "score"} <= after.keys()


@pytest.mark.parametrize(
    "make",
    [
        Digits,
        lambda: Maze(6, pool=8, held_out=4),
        lambda: Coloring(6),
        lambda: Sudoku(Grid(3, 3), SudokuKind(unique=1, many=0, unique_clues=(40, 50), pool=4, held_out=3)),
    ],
)
def test_any_task_trains_and_validates(make: Callable[[], Task]) -> None:
    task = make()
    trainer = Trainer(task, *tiny(**{**task.defaults, "batch": 4, "validation_inputs": 3, "mixer": 8}))
    for _ in range(3):
        trainer.advance()
    assert 0 <= trainer.validate()["score"] <= 1
    assert all(bool(p.isfinite().all()) for p in trainer.model.parameters())


def test_on_policy_slots_are_relabelled_with_valid_answers_and_paper_slots_keep_theirs(queens: Queens) -> None:
    for mode, changes in (("on-policy", True), ("paper", False)):
        trainer = Trainer(queens, *tiny(mode=mode, supervision=40, on_policy_share=1.0))
        changed = False
        for _ in range(4):
            old_x, old_y = trainer.slots.x, trainer.slots.y
            trainer.advance()
            kept = (trainer.slots.x == old_x).all(-1)
            changed |= bool((trainer.slots.y != old_y)[kept].any())
        assert queens.valid(trainer.slots.x, trainer.slots.y).all()
        assert changed == changes


def test_slots_end_after_the_episode_and_start_at_every_age(queens: Queens) -> None:
    trainer = Trainer(queens, *tiny(supervision=4, batch=64))
    assert set(trainer.slots.age.tolist()) == {0, 1, 2, 3}
    for _ in range(5):
        trainer.advance()
        fresh = trainer.slots.age == 0
        assert torch.equal(trainer.slots.h[fresh], trainer.model.h0.expand(int(fresh.sum()), -1, -1))
        assert (trainer.slots.age < 4).all()


def test_z0_is_kept_and_never_trained(queens: Queens) -> None:
    trainer = Trainer(queens, *tiny())
    before = trainer.model.h0.clone()
    trainer.advance()
    assert torch.equal(trainer.model.h0, before)
    assert "h0" in trainer.model.state_dict()


def test_the_average_forgets_its_first_weights_soon() -> None:
    assert ema.decay_at(0, 0.9999) == 0.1
    assert ema.decay_at(10**9, 0.9999) == 0.9999
    model, average = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    for step in range(60):
        ema.update(average, model, ema.decay_at(step, 0.999))
    torch.testing.assert_close(average.weight, model.weight, atol=1e-3, rtol=0)


def test_the_learning_rate_warms_up_stays_and_falls() -> None:
    config = tiny(steps=100, warmup=10, decay_from=0.5, learning_rate=1.0, floor=0.1)[1]
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10:50] == [1.0] * 40
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert min(rates[50:]) == pytest.approx(0.1)


def test_a_state_of_other_settings_is_refused(queens: Queens) -> None:
    with pytest.raises(InputError, match="other settings"):
        Trainer(queens, *tiny()).load_state_dict(Trainer(queens, *tiny(beta=0.9)).state_dict())


def test_rows_are_divided_evenly_or_not_at_all() -> None:
    batch = torch.arange(6)
    assert torch.equal(torch.cat([World(rank, 3).share(batch) for rank in range(3)]), batch)
    with pytest.raises(LimitError, match="does not divide"):
        World(0, 4).share(batch)


SCRIPT = """
import sys, torch
from pathlib import Path
from fathom.recursive.tasks.queens import Queens
from fathom.recursive.training import Trainer, train
from fathom.recursive.distributed import World
from small_models import tiny
torch.set_num_threads(1)
mode, out = sys.argv[1], Path(sys.argv[2])
if mode == "train":
    train(Queens(6), *tiny(steps=60, save_every=0.0, validate_every=10), out)
else:
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


@pytest.mark.slow
def test_a_killed_run_ends_as_the_one_that_was_not(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    victim = run([str(script), "train", str(tmp_path / "killed")])
    while not (tmp_path / "killed" / "state-0.pt").exists():
        assert victim.poll() is None
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert not (tmp_path / "killed" / "checkpoint.safetensors").exists()
    for out in ("killed", "whole"):
        assert run([str(script), "train", str(tmp_path / out)]).wait() == 0
    killed, whole = ((tmp_path / out / "checkpoint.safetensors").read_bytes() for out in ("killed", "whole"))
    assert killed == whole
    history = [json.loads(line) for line in (tmp_path / "killed" / "history.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in history] == [10, 20, 30, 40, 50, 60]


@pytest.mark.slow
def test_two_processes_take_the_step_of_one(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    assert run([str(script), "step", str(tmp_path / "one.pt")]).wait() == 0
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    assert run([*launch, str(script), "step", str(tmp_path / "two.pt")]).wait() == 0
    one, two = (torch.load(tmp_path / f"{name}.pt") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5)


def test_train_leaves_a_checkpoint_with_its_metrics(tmp_path: Path) -> None:
    task = Queens(6)
    seen: list[dict[str, float]] = []
    made = train(task, *tiny(steps=4, validate_every=2), tmp_path, progress=seen.append)
    loaded = load_checkpoint(tmp_path / "checkpoint.safetensors", task="queens-6")
    assert [entry["step"] for entry in seen] == [2, 4]
    assert loaded.training == made.training
    assert loaded.step == 4
    assert 0.5 <= loaded.halt_threshold <= 1
    for name, tensor in made.model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], tensor, rtol=1e-3, atol=1e-3)
