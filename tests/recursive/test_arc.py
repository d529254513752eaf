from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fathom.errors import InputError
from fathom.recursive.tasks.arc import Arc, Grid, Variant, _random_variant
from fathom.recursive.tasks.base import Task

FLIP = {
    "train": [{"input": [[1, 2, 3]], "output": [[3, 2, 1]]}, {"input": [[4, 0]], "output": [[0, 4]]}],
    "test": [{"input": [[5, 6, 7], [0, 0, 8]], "output": [[7, 6, 5], [8, 0, 0]]}],
}


@pytest.fixture
def task(tmp_path: Path) -> Arc:
    (tmp_path / "flip.json").write_text(json.dumps(FLIP))
    return Arc(tmp_path / "flip.json", variants=8, side=6)


def grids() -> st.SearchStrategy[Grid]:
    size = st.tuples(st.integers(1, 6), st.integers(1, 6))
    row = lambda columns: st.tuples(*[st.integers(0, 9)] * columns)  # noqa: E731
    return size.flatmap(lambda rc: st.tuples(*[row(rc[1])] * rc[0]))


@given(grids(), st.integers(0, 10_000))
def test_undoing_a_variant_gives_the_grid_back(grid: Grid, seed: int) -> None:
    variant = _random_variant(Random(seed))
    assert variant.undo(variant.apply(grid)) == grid


def test_a_quarter_turn_is_clockwise() -> None:
    assert Variant(turns=1).apply(((1, 2), (3, 4))) == ((3, 1), (4, 2))


def test_boards_hold_grids_and_nothing_else(task: Arc) -> None:
    for pair in (*task.demonstrations, *task.tests):
        assert task.grid(task.board(pair.question)) == pair.question
    full = tuple((1,) * 6 for _ in range(6))
    assert task.grid(task.board(full)) == full
    for broken in (
        torch.zeros(36, dtype=torch.long),
        torch.full((36,), 1),
        task.board(full) - (torch.arange(36) == 7).long() * 3,
    ):
        assert task.grid(broken) is None


def test_training_draws_demonstrations_in_variants_and_the_file_is_the_judge(task: Arc) -> None:
    assert isinstance(task, Task)
    x, y = task.batch(40, torch.Generator().manual_seed(0))
    assert x.shape == (40, 36, 2)
    assert task.valid(x, y).all()
    assert not task.valid(x, y.roll(1, -1)).any()
    assert len(x[:, 0, 1].unique()) > 3
    tests = {row.numpy().tobytes() for row in task.inputs("test")}
    assert not tests & {row.numpy().tobytes() for row in x}


def test_the_vote_is_over_answers_carried_back(task: Arc) -> None:
    right, wrong = task.tests[0].answer, task.tests[0].question
    shown = [task.board(v.apply(right if i % 3 else wrong)) for i, v in enumerate(task.variants[0])]
    shown[4] = torch.zeros(36, dtype=torch.long)
    assert task.vote(0, shown) == [(right, 4), (wrong, 3)]


def test_parse_and_render(task: Arc) -> None:
    x = task.parse("flip: 567/008")
    assert torch.equal(x, task.inputs("test")[0])
    assert task.render(x) == "567\n008"
    assert task.render(x, torch.zeros(36, dtype=torch.long)) == "(no grid)"
    for text, says in (
        ("flop: 1", "no puzzle"),
        ("flip: 1/22", "rectangle"),
        ("flip: a", "digits"),
        ("flip: 1111111", "does not fit"),
    ):
        with pytest.raises(InputError, match=says):
            task.parse(text)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"a": 1}',
        '{"train": [{}], "test": []}',
        '{"train": [{"input": [[11]], "output": [[1]]}], "test": []}',
    ],
)
def test_a_file_that_is_no_arc_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(InputError):
        Arc(tmp_path / "bad.json")
