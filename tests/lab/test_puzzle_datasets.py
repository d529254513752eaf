"""Puzzles of recursive models as questions: the constraints decide, however an answer is written."""

from __future__ import annotations

import asyncio
import random

import pytest
import torch
from safetensors import safe_open

from fathom.errors import InputError
from fathom.lab.datasets import load_dataset
from fathom.lab.datasets.puzzles import constraints, read_answer
from fathom.lab.identity import facts_of, terms_of
from fathom.models import open_model
from fathom.recursive.library import find_checkpoint
from fathom.recursive.tasks import open_task


@pytest.mark.parametrize("name", ["queens-8", "coloring-8", "sudoku-6"])
def test_constraints_decide_on_puzzles_however_they_are_written(name: str) -> None:
    task, data = open_task(name), load_dataset(f"recursive:{name}", questions=3)
    assert len(data.questions) == 3
    x, y = task.batch(1, torch.Generator().manual_seed(random.SystemRandom().randrange(10**6)))
    text = task.render(x[0], y[0])
    assert read_answer(task, x[0], text).tolist() == y[0].tolist()
    score = constraints(task, x[0])
    assert asyncio.run(score(text)) == 1.0
    if ":" not in text:
        assert asyncio.run(score(text.replace("\n", " / "))) == 1.0
        assert asyncio.run(score(text[:-1])) == 0.0
    assert asyncio.run(score("no board")) == 0.0
    assert asyncio.run(data.questions[0].score("")) == 0.0


def test_a_task_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="task"):
        load_dataset("recursive:none")


@pytest.mark.slow
async def test_a_recursive_model_tells_its_pace_and_its_size() -> None:
    """By its pace a sweep's times are computed, for the samples' own are those of a crowd; by its size it is ranked."""
    uri, data = "recursive:queens-8-micro", load_dataset("recursive:queens-8", questions=1)
    model = await open_model(uri)
    facts = await facts_of(model, uri, data.questions[0].prompt)
    await model.aclose()
    steps = facts["pace"]["step_seconds"]
    assert facts["unit"] == "supervision step"
    assert 0 < steps[1] <= steps[64]
    with safe_open(find_checkpoint("queens-8-micro"), "pt") as file:
        assert facts["parameters"] == sum(file.get_tensor(name).numel() for name in {*file.keys()} - {"h0", "l0"})


@pytest.mark.slow
async def test_how_a_recursive_model_was_opened_is_part_of_a_sweeps_terms() -> None:
    data, told = load_dataset("recursive:queens-8", questions=1), []
    for options in ("", "(threads=1)", "(halting=false)", "(constraints=false)"):
        uri = f"recursive:queens-8-micro{options}"
        model = await open_model(uri)
        told.append(terms_of(model, uri, data, 0))
        await model.aclose()
    assert [terms.model for terms in told] == [
        "recursive:queens-8-micro",
        "recursive:queens-8-micro",
        "recursive:queens-8-micro(halting=false)",
        "recursive:queens-8-micro(constraints=false)",
    ]
    assert len({terms.model_hash for terms in told}) == 1
