from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from small_models import tiny

from fathom.errors import LimitError
from fathom.recursive import ema
from fathom.recursive.distributed import World
from fathom.recursive.tasks import Task
from fathom.recursive.tasks.coloring import Coloring
from fathom.recursive.tasks.digits import Digits
from fathom.recursive.tasks.maze import Maze
from fathom.recursive.tasks.queens import Queens
from fathom.recursive.tasks.sudoku import Sudoku, SudokuKind
from fathom.recursive.tasks.sudoku_solver import Grid
from fathom.recursive.training import Trainer, learning_rate


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


def test_rows_are_divided_evenly_or_not_at_all() -> None:
    batch = torch.arange(6)
    assert torch.equal(torch.cat([World(rank, 3).share(batch) for rank in range(3)]), batch)
    with pytest.raises(LimitError, match="does not divide"):
        World(0, 4).share(batch)
