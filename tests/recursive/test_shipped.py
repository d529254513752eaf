"""The checkpoints in the package do what their cards say, on puzzles drawn afresh."""

from __future__ import annotations

from random import SystemRandom

import pytest
import torch

from fathom.recursive.checkpoint import load_checkpoint
from fathom.recursive.evaluate import vote
from fathom.recursive.explorer import Explorer
from fathom.recursive.library import find_checkpoint, shipped
from fathom.recursive.rollout import roll_out
from fathom.recursive.tasks import open_task


def test_checkpoints_are_small_and_each_has_a_card() -> None:
    assert {"queens-8", "sudoku-6", "coloring-8"} <= shipped().keys()
    assert sum(file.stat().st_size for file in shipped().values()) <= 12_000_000
    for name, file in shipped().items():
        card = file.with_suffix(".md").read_text()
        assert card.startswith(f"# {name}\n")
        assert "Test split" in card


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped())
def test_a_shipped_checkpoint_solves_fresh_puzzles_and_halts_early(name: str) -> None:
    checkpoint = load_checkpoint(find_checkpoint(name))
    task = open_task(checkpoint.task)
    x, _ = task.batch(60, torch.Generator().manual_seed(SystemRandom().randrange(2**31)))
    explorer = Explorer(checkpoint.model)
    problems = [explorer.pose(board) for board in x]
    runs = explorer.run(problems, width=3, depth=16, halt_threshold=checkpoint.halt_threshold)
    answers = [[t.answer for t in run if t.answer is not None] for run in runs]
    chosen = [
        held[vote([a.numpy().tobytes() for a in held], [t.value for t in run])]
        for held, run in zip(answers, runs, strict=True)
    ]
    assert task.valid(x, torch.stack(chosen)).float().mean() >= checkpoint.metrics["accuracy"] - 0.2
    assert sum(t.depth for run in runs for t in run) / (3 * len(x)) < 12


def test_the_heads_tell_a_right_board_from_one_that_is_right_for_another_input() -> None:
    checkpoint = load_checkpoint(find_checkpoint("queens-8"))
    task, model = open_task("queens-8"), checkpoint.model
    x, _ = task.batch(48, torch.Generator().manual_seed(SystemRandom().randrange(2**31)))
    *_, state = roll_out(model, x, 8, torch.Generator().manual_seed(0))
    answers = model.decode(state.h).argmax(-1)
    other = x.roll(1, 0)
    right, still_right = task.valid(x, answers), task.valid(other, answers)
    for own, foreign in zip(
        model.judge(state.h, model.encode(x)), model.judge(state.h, model.encode(other)), strict=True
    ):
        assert own[right].median() > 2
        assert foreign[~still_right].median() < 0


def test_unconditional_sudoku_boards_are_valid_and_different() -> None:
    """Of 28 million boards two of forty may be one, and now and then a board is wrong; neither happens often."""
    checkpoint = load_checkpoint(find_checkpoint("sudoku-6"))
    task = open_task("sudoku-6")
    empty = torch.zeros(36, dtype=torch.long)
    explorer = Explorer(checkpoint.model, seed=SystemRandom().randrange(2**31))
    (run,) = explorer.run([explorer.pose(empty)], width=40, depth=16)
    boards = torch.stack([t.answer for t in run if t.answer is not None])
    assert task.valid(empty.expand(40, -1), boards).float().mean() >= 0.8
    assert len({tuple(board) for board in boards.tolist()}) >= 36
