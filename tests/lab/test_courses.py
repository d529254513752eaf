"""How trajectories went: kept as told, and shallower ones read off deeper ones as if they had been drawn."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_store import QUESTIONS, TERMS, drawn

from fathom.errors import UsageError
from fathom.lab.courses import at_depth, packed, unpacked
from fathom.lab.datasets import load_dataset
from fathom.lab.pool import Pool
from fathom.lab.records import GREEDY, Board, Course, Written
from fathom.lab.store import FILE, Store
from fathom.lab.sweep import SweepOptions, open_sweep
from fathom.models import open_model
from fathom.reasoner import Reasoner

singles = st.floats(-1e4, 1e4, width=32)
boards = st.builds(
    Board,
    st.integers(1, 99),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.booleans() | st.none(),
    st.floats(0, 1),
)


@given(st.lists(singles), st.lists(singles), st.lists(boards))
def test_a_course_comes_back_as_it_was(logprobs: list[float], values: list[float], held: list[Board]) -> None:
    course = Course(3, -1, 5, tuple(logprobs), tuple(values), tuple(held))
    found = unpacked(3, -1, 5, packed(course))
    assert found.logprobs == pytest.approx(course.logprobs, rel=1e-3, abs=1e-6)
    assert found == replace(course, logprobs=found.logprobs)


def test_tokens_that_could_not_be_are_kept_too() -> None:
    never, hardly = unpacked(0, 0, 0, packed(Course(0, 0, 0, (-math.inf, -1e30)))).logprobs
    assert never <= hardly < -60_000
    assert unpacked(0, 0, 0, packed(Course(0, 0, 0, (-math.inf,)))).logprobs == (-math.inf,)


def test_it_is_kept_with_its_trajectory_or_not_at_all(tmp_path: Path) -> None:
    course = Course(0, -1, 0, (-0.5, -0.25))
    with Store(tmp_path, write=True, patience=9) as store:
        sweep = store.begin("s", TERMS, QUESTIONS).id
        store.add(sweep, [drawn(random.Random(0), 0, 0), course])
        with Store(tmp_path) as reader:
            assert list(reader.courses(sweep)) == []
        assert list(store.courses(sweep)) == [course]
        with Store(tmp_path) as reader:
            assert list(reader.courses(sweep, question=0)) == [course]
            assert list(reader.courses(sweep, question=1)) == []
            assert len(list(reader.trajectories(sweep))) == 1
    assert (tmp_path / FILE).exists()


def test_nothing_is_read_off_a_trajectory_that_nobody_knows_the_course_of() -> None:
    deep = replace(drawn(random.Random(0), 0, 0, depth=9), steps=9, finished=False, reason="length")
    course = Course(0, 9, 0, (), (0.5,) * 9, (Board(1, "a", None, 0.0), Board(4, "b", True, 1.0)))
    cut = at_depth(deep, course, 5)
    assert cut is not None
    assert (cut.depth, cut.steps, cut.answer, cut.score, cut.valid, cut.finished) == (5, 5, "b", 1.0, True, False)
    assert at_depth(deep, course, 3).answer == "a"  # type: ignore[union-attr]
    assert [at_depth(deep, course, depth) for depth in (-1, 0, 10)] == [None] * 3
    assert at_depth(deep, Course(0, 9, 0, (-0.5,) * 9), 5) is None


def test_a_language_models_tokens_are_kept_each_with_its_probability(
    pools: Callable[..., list[Pool]], tmp_path: Path
) -> None:
    pools(3, samples=2)
    with Store(tmp_path / "sweep") as store:
        kept, courses = list(store.trajectories(1)), list(store.courses(1))
    assert [(c.question, c.depth, c.sample) for c in courses] == [(t.question, t.depth, t.sample) for t in kept]
    for t, course in zip(kept, courses, strict=True):
        assert len(course.logprobs) == t.steps + t.conclusion
        assert sum(course.logprobs) / len(course.logprobs) == pytest.approx(t.logprob, rel=1e-3)
    with pytest.raises(UsageError, match="that are not kept"):
        pools(3, samples=2, judges=("self-certainty",))


async def swept(directory: Path, model: Reasoner, *depths: int) -> tuple[list[Written], list[Course], float]:
    """What is kept of two puzzles at these depths, and the arithmetic that it took."""
    data, options = load_dataset("recursive:queens-8", questions=2, seed=5), SweepOptions(samples=4, depths=depths)
    async with open_sweep(model, model.name, data, directory, "s", options) as sweeper:
        await sweeper.run()
        return list(sweeper.store.trajectories(1)), list(sweeper.store.courses(1)), sweeper.store.spent(1).flops


@pytest.mark.slow
@pytest.mark.parametrize("options", ["", "(halting=false, constraints=false)"])
async def test_shallower_trajectories_are_read_off_deeper_ones_as_if_drawn(tmp_path: Path, options: str) -> None:
    model = await open_model(f"recursive:queens-8-micro{options}")
    kept, courses, flops = await swept(tmp_path / "all", model, 1, 2, 6)
    later, _, after = await swept(tmp_path / "all", model, 3)
    assert after == flops
    for depth in (2, 3):
        alone, own, _ = await swept(tmp_path / f"{depth}", model, depth)
        found = [t for t in later if t.depth == depth]
        assert [t.sample for t in found] == [GREEDY, *range(4)] * 2
        for one, other in zip(found, alone, strict=True):
            assert one.value == pytest.approx(other.value, rel=1e-3)
            assert replace(one, seconds=0, value=None) == replace(other, seconds=0, value=None)
            assert one.seconds > 0
        assert [len(course.values) for course in own] == [t.steps for t in alone]
    await model.aclose()
    with Store(tmp_path / "all") as store:
        assert flops == pytest.approx(store.find().facts["unit_flops"] * sum(t.steps for t in kept if t.depth == 6))
    assert {t.depth for t in kept} == {1, 2, 6}
    assert {course.depth for course in courses} == {6}
    for course in courses:
        assert all(a.answer != b.answer for a, b in zip(course.boards, course.boards[1:], strict=False))
