"""The puzzles of a recursive model's task, held out from its training. The task's constraints decide what is right."""

from __future__ import annotations

import asyncio

import torch
from torch import Tensor

from fathom.errors import InputError
from fathom.lab.datasets.base import Dataset, Question, Scorer
from fathom.recursive.tasks import Task, open_task
from fathom.recursive.tasks.base import ReadsAnswers

__all__ = ["constraints", "puzzles", "read_answer"]


def puzzles(name: str) -> Dataset:
    """The test split of a task such as ``queens-8``. Raises InputError for one that does not exist."""
    task = open_task(name)
    questions = [
        Question(str(number), task.render(x), "", constraints(task, x)) for number, x in enumerate(task.inputs("test"))
    ]
    return Dataset(f"recursive:{name}", questions)


def constraints(task: Task, x: Tensor) -> Scorer:
    """Scores 1 for an answer that keeps to the clues of ``x`` and all constraints of the task."""

    def check(answer: str) -> float:
        try:
            return float(task.valid(x[None], read_answer(task, x, answer)[None])[0])
        except InputError:
            return 0.0

    async def score(answer: str) -> float:
        return await asyncio.to_thread(check, answer)

    return score


def read_answer(task: Task, x: Tensor, text: str) -> Tensor:
    """The answer, (L,), that a text shows, however its rows and cells are set apart.

    What stands for a symbol is learned from how the task renders it, unless the task reads answers itself. Raises
    InputError where a cell is unknown or their number is wrong.
    """
    if isinstance(task, ReadsAnswers):
        return task.read(text)
    length = task.shape.length
    known = {
        _cells(task.render(x, torch.full((length,), symbol)))[0]: symbol for symbol in range(task.shape.symbols_out)
    }
    cells = _cells(text)
    if len(cells) != length or not known.keys() >= set(cells):
        raise InputError(f"an answer to {task.name} has {length} cells of {' '.join(known)}")
    return torch.tensor([known[cell] for cell in cells])


def _cells(text: str) -> list[str]:
    """The cells of a board (one character each), or of a list of ``place:symbol``."""
    if ":" in text:
        return [item.partition(":")[2] for item in text.split()]
    return [character for character in text if not character.isspace() and character != "/"]
