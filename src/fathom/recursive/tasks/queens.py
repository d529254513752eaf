"""N queens on an n × n board, none attacking another; the input shows some of them (GRAM, arXiv 2605.19376, section 4).

Inputs are all boards that remain when n - 1, n - 2 or n - 3 queens of a solution are removed, split 80 : 5 : 15.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from fathom.errors import InputError
from fathom.recursive.config import Shape
from fathom.recursive.tasks.base import SplitName, eased_cells, read_board, show_board
from fathom.recursive.tasks.enumerated import EnumeratedTask

__all__ = ["Queens", "solutions"]

SHOWN = (1, 2, 3)
"""Queens that inputs show."""


def solutions(n: int) -> list[tuple[int, ...]]:
    """All placements of n queens, each as the column of every row, in lexicographic order."""
    found: list[tuple[int, ...]] = []

    def place(columns: tuple[int, ...]) -> None:
        row = len(columns)
        if row == n:
            found.append(columns)
            return
        for column in range(n):
            if all(column != c and abs(column - c) != row - r for r, c in enumerate(columns)):
                place((*columns, column))

    place(())
    return found


class Queens(EnumeratedTask):
    """n queens; symbols are 0 (empty) and 1 (queen).

    Of the training boards, a share ``eased`` shows more of the answer than held-out boards do, anything up to all of
    it. Where answers are many and long, that is how training finds its way in.
    """

    emphasis = 1.0

    def __init__(self, n: int = 8, eased: float = 0.0) -> None:
        self.name, self.n, self.eased = f"queens-{n}", n, eased
        self.shape = Shape(length=n * n, symbols_in=2, symbols_out=2)
        self.defaults = {"mixer": 96, "beta": 0.3} if n == 8 else {"mixer": 128, "beta": 0.3}
        self.paper = {"beta": 0.045 if n == 10 else 0.07}
        self.placements = solutions(n)
        self.answers = torch.zeros(len(self.placements), n * n, dtype=torch.long)
        for row, columns in enumerate(self.placements):
            self.answers[row, [r * n + c for r, c in enumerate(columns)]] = 1
        self.lines = _lines(n)

    def batch(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, y = super().batch(count, generator)
        if self.eased:
            shown = x | y & eased_cells(y, self.eased, generator)
            # With no more queens than inputs have, it might be a held-out one.
            x = torch.where(shown.sum(-1, keepdim=True) > max(SHOWN), shown, x)
        return x, y

    def allowed(self, x: Tensor) -> Tensor:
        missed = x.float() @ (1 - self.answers.to(x.device)).float().T
        return missed == 0

    def _splits(self) -> dict[SplitName, Tensor]:
        boards = {
            tuple(sorted(r * self.n + columns[r] for r in kept))
            for columns in self.placements
            for shown in SHOWN
            for kept in combinations(range(self.n), shown)
        }
        x = torch.zeros(len(boards), self.n * self.n, dtype=torch.long)
        for row, cells in enumerate(sorted(boards)):
            x[row, list(cells)] = 1
        x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
        test, validation = int(0.15 * len(x)), int(0.05 * len(x))
        return {"test": x[:test], "validation": x[test : test + validation], "train": x[test + validation :]}

    def valid(self, x: Tensor, answer: Tensor) -> Tensor:
        on_line = answer.float() @ self.lines.to(answer.device)
        return (answer.sum(-1) == self.n) & (on_line <= 1).all(-1) & (answer >= x).all(-1)

    def parse(self, text: str) -> Tensor:
        x = read_board(text, self.n, {".": 0, "Q": 1}, f"a board of {self.n} queens")
        crowded = x.float() @ self.lines > 1
        if crowded.any():
            kinds = ("row", "column", "diagonal")
            line = min(int(crowded.nonzero()[0]) // self.n, 2)
            raise InputError(f"the board contradicts itself: two queens share a {kinds[line]}")
        return x

    def render(self, x: Tensor, answer: Tensor | None = None) -> str:
        return show_board(x if answer is None else answer, self.n, ".Q")


def _lines(n: int) -> Tensor:
    """Which cell lies on which row, column and diagonal: (n², 6n - 2)."""
    cell = torch.arange(n * n)
    row, column = cell // n, cell % n
    lines = torch.zeros(n * n, 6 * n - 2)
    for line in (row, n + column, 2 * n + row + column, 5 * n - 2 + row - column):
        lines[cell, line] = 1
    return lines
