"""Sudoku of 4 × 4, 6 × 6 and 9 × 9 cells: puzzles with one solution, with many, and the empty board (unconditional
generation).

Training draws from a small pool of puzzles under the symmetries of Sudoku: renaming digits and permuting rows and
columns within and between bands keep a puzzle a puzzle. Held-out inputs are never drawn, but their grids may be
symmetric to trained ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

import torch
from torch import Tensor

from fathom.errors import InputError
from fathom.recursive.config import Shape
from fathom.recursive.tasks.base import SplitName, draw, eased_cells, read_board, show_board, unseen
from fathom.recursive.tasks.sudoku_completion import nearest_completion
from fathom.recursive.tasks.sudoku_solver import Grid, Puzzle

__all__ = ["Sudoku", "SudokuKind"]

LETTERS = ".123456789"


@dataclass(frozen=True)
class SudokuKind:
    """What puzzles a Sudoku task is made of: shares of the three kinds, and ranges of clues."""

    unique: float = 0.45
    many: float = 0.45
    unique_clues: tuple[int, int] = (9, 13)
    many_clues: tuple[int, int] = (6, 14)
    pool: int = 1200
    """Unique puzzles, and full boards, that training draws from."""
    held_out: int = 300
    """Test inputs of either kind; the validation split has a third of that."""
    eased: float = 0.0
    """Share of the training puzzles that show more of their solution, anything up to all of it."""

    @property
    def empty(self) -> float:
        return max(0.0, 1 - self.unique - self.many)


class Sudoku:
    """Sudoku on ``grid``. Symbols are 0 (empty, in inputs alone) and the digits."""

    verifies = True

    def __init__(self, grid: Grid, kind: SudokuKind, name: str | None = None) -> None:
        self.grid, self.kind, n = grid, kind, grid.n
        self.name = name or f"sudoku-{n}"
        self.shape = Shape(length=n * n, symbols_in=n + 1, symbols_out=n + 1)
        self.defaults: Mapping[str, Any] = {
            "mixer": 2 * n * n if n < 9 else n * n,
            "inner": 2 if n < 9 else 3,
            "beta": 0.5,
            "on_policy_share": 0.9,
            "learning_rate": 2e-3,
        }
        self.paper: Mapping[str, Any] = {"mixing": "sequence", "inner": 6, "beta": 0.1}
        self._units = torch.tensor(grid.units)

    @cached_property
    def _pool(self) -> tuple[Tensor, Tensor]:
        """Clues and solutions of the unique puzzles that training draws from: (pool, L) each."""
        random = Random("train")
        puzzles = [self._puzzle(random) for _ in range(self.kind.pool)]
        return torch.tensor([p.clues for p in puzzles]), torch.tensor([p.solution for p in puzzles])

    def _puzzle(self, random: Random) -> Puzzle:
        return self.grid.unique(random, random.randint(*self.kind.unique_clues))

    def _masked(self, random: Random) -> Tensor:
        """A full board of which a random number of clues is kept: any number of solutions."""
        board = self.grid.filled(random)
        kept = random.sample(range(len(board)), random.randint(*self.kind.many_clues))
        x = torch.zeros(len(board), dtype=torch.long)
        x[kept] = torch.tensor(board)[kept]
        return x

    @cached_property
    def splits(self) -> dict[SplitName, Tensor]:
        """The held-out inputs: unique puzzles first, then those with any number of solutions."""
        seen: set[bytes] = set()
        held_out: dict[SplitName, Tensor] = {}
        sizes: dict[SplitName, int] = {"test": self.kind.held_out, "validation": self.kind.held_out // 3}
        for split, size in sizes.items():
            random = Random(split)
            parts = []
            if self.kind.unique:
                parts.append(unseen(lambda _, r=random: torch.tensor(self._puzzle(r).clues), size, seen))  # type: ignore[misc]
            if self.kind.many:
                parts.append(unseen(lambda _, r=random: self._masked(r), size, seen))  # type: ignore[misc]
            held_out[split] = torch.cat(parts)
        return held_out

    def inputs(self, split: SplitName) -> Tensor:
        if split == "train":
            return self._pool[0]
        return self.splits[split]

    @cached_property
    def _held_out_keys(self) -> Tensor:
        return self._keys(torch.cat((self.splits["test"], self.splits["validation"])))

    def _keys(self, x: Tensor) -> Tensor:
        """A 64-bit hash of each input."""
        powers = torch.tensor([pow(1_000_003, i, 2**61 - 1) for i in range(x.shape[1])])
        return (x * powers).sum(-1)

    def batch(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        clues, solutions = self._pool
        chosen = draw(len(clues), count, generator)
        x, y = self._symmetric(clues[chosen], solutions[chosen], generator)
        kind = torch.rand(count, generator=generator)
        low, high = self.kind.many_clues
        clue_count = low + draw(high - low + 1, count, generator)
        rank = torch.rand(count, self.shape.length, generator=generator).argsort(-1).argsort(-1)
        masked = torch.where(rank < clue_count[:, None], y, 0)
        x = torch.where((kind < self.kind.unique)[:, None], x, masked)
        x = torch.where((kind >= 1 - self.kind.empty)[:, None], 0, x)
        if self.kind.eased:
            x = torch.where(eased_cells(y, self.kind.eased, generator), y, x)
        # A held-out input met by chance gives way to the whole solution as its own puzzle.
        held_out = torch.isin(self._keys(x), self._held_out_keys)
        return torch.where(held_out[:, None], y, x), y

    def _symmetric(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Each puzzle under a random symmetry of Sudoku."""
        count, n = len(x), self.grid.n
        digits = torch.rand(count, n, generator=generator).argsort(-1) + 1
        digits = torch.cat((torch.zeros(count, 1, dtype=torch.long), digits), -1)
        rows = self._band_permutation(count, self.grid.rows, generator)
        columns = self._band_permutation(count, self.grid.columns, generator)
        cells = (rows[:, :, None] * n + columns[:, None, :]).flatten(1)
        return digits.gather(1, x.gather(1, cells)), digits.gather(1, y.gather(1, cells))

    def _band_permutation(self, count: int, band: int, generator: torch.Generator) -> Tensor:
        """Permutations of n lines that keep bands of ``band`` lines together: (count, n)."""
        bands = torch.rand(count, self.grid.n // band, generator=generator).argsort(-1)
        within = torch.rand(count, self.grid.n // band, band, generator=generator).argsort(-1)
        return (bands[:, :, None] * band + within).flatten(1)

    def valid(self, x: Tensor, answer: Tensor) -> Tensor:
        units = answer[:, self._units.to(answer.device)].sort(-1).values
        complete = (units == torch.arange(1, self.grid.n + 1, device=answer.device)).flatten(1).all(-1)
        return complete & ((x == 0) | (x == answer)).all(-1)

    def nearest(self, x: Tensor, answer: Tensor, y: Tensor) -> Tensor:
        """By beam search; exact where the answer is right or the puzzle has one solution."""
        if self.kind.unique == 1:
            return y
        found = torch.where(self.valid(x, answer)[:, None], answer, y)
        wrong = (found == y).all(-1) & (answer != y).any(-1)
        if wrong.any():
            found[wrong] = nearest_completion(self.grid, x[wrong], answer[wrong], y[wrong])
        return found

    def count(self, x: Tensor, limit: int = 1000) -> Tensor:
        """Solutions of each puzzle, counted up to ``limit``."""
        return torch.tensor([len(self.grid.solve(board, limit)[0]) for board in x.tolist()])

    def parse(self, text: str) -> Tensor:
        n = self.grid.n
        alphabet = {".": 0, "0": 0, **{str(digit): digit for digit in range(1, n + 1)}}
        x = read_board(text, n, alphabet, f"a {n}×{n} Sudoku")
        if pair := self.grid.conflict(x.tolist()):
            first, second = (f"row {cell // n + 1} column {cell % n + 1}" for cell in pair)
            raise InputError(f"the puzzle contradicts itself: {first} and {second} both hold {int(x[pair[0]])}")
        return x

    def render(self, x: Tensor, answer: Tensor | None = None) -> str:
        return show_board(x if answer is None else answer, self.grid.n, LETTERS)
