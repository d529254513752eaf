from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import tiny

from fathom.budget import Meter
from fathom.errors import InputError
from fathom.lab.datasets import load_dataset
from fathom.reasoner import Capability, Expansion
from fathom.records import Problem
from fathom.recursive.checkpoint import Checkpoint
from fathom.recursive.model import RecursiveModel
from fathom.recursive.reasoner import RecursiveReasoner
from fathom.recursive.tasks import open_task
from fathom.recursive.tasks.arc import Arc, Grid, Variant, _random_variant
from fathom.recursive.tasks.base import Task, in_form_of

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


def test_splits_are_of_different_questions_and_no_checkpoint_is_chosen_by_the_test(task: Arc) -> None:
    questions = {split: {task.render(x) for x in task.inputs(split)} for split in ("train", "validation", "test")}
    assert questions == {"train": {"flip: 123"}, "validation": {"flip: 40"}, "test": {"flip: 567/008"}}
    drawn, _ = task.batch(60, torch.Generator().manual_seed(1))
    assert {task.render(x) for x in drawn} == questions["train"]


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=5), st.integers(0, 10_000))
def test_an_answer_to_any_disguise_is_carried_back(rows: list[list[int]], seed: int) -> None:
    with TemporaryDirectory() as folder:
        (file := Path(folder) / "flip.json").write_text(json.dumps(FLIP))
        task = Arc(file, variants=8, side=6, seed=seed)
    x = task.parse("flip: " + "/".join("".join(map(str, row)) for row in rows))
    shown = task.disguises(x)
    assert torch.equal(shown[0], x)
    assert len(shown) == 8
    assert {task.render(one) for one in shown} == {task.render(x)}
    answer = tuple(tuple(row[::-1]) for row in rows)
    told = {task.render(one, task.board(v.apply(answer))) for one, v in zip(shown, task.variants[0], strict=True)}
    assert told == {"\n".join("".join(map(str, row)) for row in answer)}


def test_what_is_right_is_looked_up_in_every_disguise_and_a_search_may_not_ask(task: Arc) -> None:
    assert not task.verifies
    shown = task.disguises(task.inputs("test")[0])
    right = [task.board(v.apply(task.tests[0].answer)) for v in task.variants[0]]
    assert task.valid(torch.stack(shown), torch.stack(right)).all()
    assert not task.valid(torch.stack(shown), torch.stack(right).roll(1, 1)).any()
    unknown = task.parse("flip: 999")
    assert not task.valid(unknown[None], unknown[None, :, 0]).any()


async def test_trajectories_are_shown_the_disguises_in_turn_and_no_search_knows_the_answer(task: Arc) -> None:
    config, training = tiny("trm", mixing="attention")
    checkpoint = Checkpoint(task.name, RecursiveModel(config, task.shape).eval(), training, 1)
    reasoner, meter = RecursiveReasoner(checkpoint, task), Meter()
    assert Capability.VALID not in reasoner.capabilities
    session = await reasoner.open(Problem.of("flip: 567/008"), meter)
    grown = {t.id: t async for t in session.expand(Expansion(tuple(range(16)), units=1), meter)}
    shown = [grown[id].state.problem for id in range(16)]
    assert len(set(shown[:8])) == 8
    assert shown[8:] == shown[:8]
    concluded = [t async for t in session.conclude(list(grown.values()), meter)]
    for t in concluded:
        if t.answer:
            assert (t.parsed, t.valid) == (True, None)
            assert task.render(task.inputs("test")[0], task.read(t.answer)).replace("\n", "/") == t.answer
        else:
            assert (t.parsed, t.valid) == (False, False)
    await session.aclose()
    await reasoner.aclose()


def test_questions_of_a_sweep_are_scored_by_the_file(task: Arc, tmp_path: Path) -> None:
    data = load_dataset(f"recursive:arc:{tmp_path / 'flip.json'}")
    (question,) = data.questions
    assert question.prompt == "flip: 567/008"
    scores = [asyncio.run(question.score(answer)) for answer in ("765/800", "765\n800", "765/801", "765", "none", "")]
    assert scores == [1, 1, 0, 0, 0, 0]


def test_an_answer_of_another_size_keeps_its_rows() -> None:
    assert in_form_of("flip: 4", "12\n34") == "12/34"
    assert in_form_of("flip: 1 2/3 4", "1\n2") == "1/2"
    assert in_form_of("12\n34", "1\n2") == "1\n2"
    assert in_form_of("1.3.", "12\n34") == "1234"


def test_parse_and_render(task: Arc) -> None:
    x = task.parse("flip: 567/008")
    assert torch.equal(x, task.inputs("test")[0])
    assert task.render(x) == "flip: 567/008"
    assert torch.equal(task.read("765\n800"), task.board(task.tests[0].answer))
    assert task.render(x, torch.zeros(36, dtype=torch.long)) == ""
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
        '{"train": [{"input": [[1]], "output": [[1]]}], "test": [{"input": [[2]], "output": [[2]]}]}',
        "[" * 100_000,
        "\x00",
    ],
)
def test_a_file_that_is_no_arc_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(InputError):
        open_task(f"arc:{tmp_path / 'bad.json'}")


def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("absent.json", "pipe.json", ""):
        with pytest.raises(InputError, match=r"no ARC (file|puzzle)|not UTF-8"):
            open_task(f"arc:{tmp_path / name}")
