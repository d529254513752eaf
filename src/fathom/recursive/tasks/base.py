"""What a task is to a recursive model: symbols in, symbols out, and constraints that say which answers are right.

A task is one small file with a class that follows :class:`Task`. Tensors of symbols are int64; an input is (L,) or,
where a position holds several symbols, (L, fields); an answer is (L,). A leading B is a batch. Everything is
deterministic: splits by the task's own seed, batches by the caller's generator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from fathom.errors import InputError
from fathom.recursive.config import ModelConfig, Shape, TrainConfig, settings

__all__ = [
    "Disguised",
    "ReadsAnswers",
    "SplitName",
    "Task",
    "draw",
    "eased_cells",
    "in_form_of",
    "read_board",
    "settings_for",
    "show_board",
    "unseen",
]

SplitName = Literal["train", "validation", "test"]


@runtime_checkable
class Task(Protocol):
    """A constraint problem that a recursive model can be trained on. No input of one split occurs in another."""

    name: str
    shape: Shape
    defaults: Mapping[str, Any]
    """Settings of model and training that this task wants in place of the size's (see
    :func:`fathom.recursive.config.settings`).
    """
    paper: Mapping[str, Any]
    """The same at size ``paper``: what the papers say of this task. Empty where they say nothing."""
    verifies: bool
    """Whether ``valid`` judges by the input alone. Where it looks up an answer that it was given, no search may ask
    it.
    """

    def batch(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """``count`` training problems with a right answer each, drawn with ``generator`` (on the CPU)."""
        ...

    def inputs(self, split: SplitName) -> Tensor:
        """The inputs of a held-out split, in a fixed order."""
        ...

    def valid(self, x: Tensor, answer: Tensor) -> Tensor:
        """Which of the answers are right for their inputs: (B,) bool."""
        ...

    def nearest(self, x: Tensor, answer: Tensor, y: Tensor) -> Tensor:
        """The right answer that agrees with ``answer`` in most positions, as far as the task can find it; ``y`` is a
        right one.
        """
        ...

    def count(self, x: Tensor) -> Tensor:
        """How many right answers each input has, (B,)."""
        ...

    def parse(self, text: str) -> Tensor:
        """The input that a text describes. Raises ``InputError`` where it does not parse or contradicts itself."""
        ...

    def render(self, x: Tensor, answer: Tensor | None = None) -> str:
        """The answer, or where there is none the input, as text for people."""
        ...


@runtime_checkable
class Disguised(Protocol):
    """A task that can show one problem in several ways: a search's trajectories are given them in turn, and ``render``
    carries the answer to any of them back, so that votes are about the problem.
    """

    def disguises(self, x: Tensor) -> list[Tensor]:
        """``x``, then the other ways to show its problem."""
        ...


@runtime_checkable
class ReadsAnswers(Protocol):
    """A task whose answers have no fixed number of cells, so that it has to read them itself."""

    def read(self, text: str) -> Tensor:
        """The answer, (L,), that ``text`` shows. Raises ``InputError`` where it shows none."""
        ...


def settings_for(task: Task, preset: str, size: str = "tiny", **overrides: Any) -> tuple[ModelConfig, TrainConfig]:
    """What ``preset`` at ``size`` is for ``task``. Raises as :func:`fathom.recursive.config.settings`."""
    return settings(preset, size, task.paper if size == "paper" else task.defaults, **overrides)


def draw(limit: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` indices below ``limit``, uniformly."""
    return torch.randint(limit, (count,), generator=generator)


def eased_cells(y: Tensor, eased: float, generator: torch.Generator) -> Tensor:
    """Which cells of the answers ``y`` (N, L) to show beside what is given: of a share ``eased`` of the answers any
    share, up to all; of the others none.
    """
    at, share = torch.rand(2, len(y), 1, generator=generator)
    return torch.rand(y.shape, generator=generator) < torch.where(at < eased, share, 0.0)


def unseen(generate: Callable[[int], Tensor], count: int, seen: set[bytes]) -> Tensor:
    """``count`` inputs from ``generate(attempt)`` that are not in ``seen``, and puts them there."""
    kept: list[Tensor] = []
    attempt = 0
    while len(kept) < count:
        x = generate(attempt)
        attempt += 1
        key = x.numpy().tobytes()
        if key not in seen:
            seen.add(key)
            kept.append(x)
    return torch.stack(kept)


def read_board(text: str, size: int, alphabet: Mapping[str, int], what: str) -> Tensor:
    """Symbols of a ``size`` × ``size`` board, (size²,), from rows divided by newlines or ``/``, or from one line of all
    cells.

    Spaces between cells are allowed. Raises ``InputError`` that names the row or character that is wrong.
    """
    rows = ["".join(row.split()) for row in text.strip().replace("/", "\n").splitlines()]
    rows = [row for row in rows if row]
    if len(rows) == 1 and len(rows[0]) == size * size:
        rows = [rows[0][i : i + size] for i in range(0, size * size, size)]
    if len(rows) != size:
        raise InputError(f"{what} has {size} rows of {size} cells, but {len(rows)} row(s) were given")
    for number, row in enumerate(rows, 1):
        if len(row) != size:
            raise InputError(f"row {number} of {what} has {len(row)} cells instead of {size}: {row[:40]!r}")
        for cell in row:
            if cell not in alphabet:
                raise InputError(f"row {number} of {what} holds {cell!r}; allowed are {' '.join(alphabet)}")
    return torch.tensor([alphabet[cell] for row in rows for cell in row])


def show_board(symbols: Tensor, size: int, letters: str) -> str:
    """Rows of letters, one a cell."""
    text = "".join(letters[int(symbol)] for symbol in symbols)
    return "\n".join(text[i : i + size] for i in range(0, size * size, size))


def in_form_of(puzzle: str, board: str) -> str:
    """``board``, rows divided by newlines, written as ``puzzle`` was: its rows divided by ``/``, or in one line; its
    cells apart or not.
    """
    rows = [row.strip() for row in puzzle.strip().replace("/", "\n").splitlines() if row.strip()]
    if "\n" not in board or not rows:
        return board
    lines = board.splitlines()
    if "\n" not in puzzle.strip() and len("".join(rows).replace(" ", "")) != len("".join(lines)):
        return "/".join(lines)  # of another size: in one line, nobody could tell its rows
    if all(" " in row for row in rows):
        board = "\n".join(" ".join(line) for line in lines)
    if "\n" in puzzle.strip():
        return board
    return board.replace("\n", "/" if "/" in puzzle else " " if " " in board else "")
