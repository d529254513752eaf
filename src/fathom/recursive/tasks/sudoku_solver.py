"""Solving, making and rating Sudoku of any box size, exactly: the ground truth behind the Sudoku task.

One depth-first search with bit masks, always at the cell with the fewest candidates. A puzzle's *rating* is the number
of guesses that search makes before the solution is proved unique: 0 where every cell follows from singles alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

__all__ = ["Grid", "Puzzle"]


@dataclass(frozen=True)
class Puzzle:
    """Clues (0 where empty) with one solution of them."""

    clues: tuple[int, ...]
    solution: tuple[int, ...]


@dataclass(frozen=True)
class Grid:
    """Boards of n × n cells, n = rows · columns, in boxes of ``rows`` × ``columns``."""

    rows: int
    columns: int

    @property
    def n(self) -> int:
        return self.rows * self.columns

    @cached_property
    def units(self) -> list[list[int]]:
        """The cells of every row, every column, every box."""
        n, span = self.n, range(self.n)
        boxes: list[list[int]] = [[] for _ in span]
        for cell in range(n * n):
            boxes[cell // n // self.rows * self.rows + cell % n // self.columns].append(cell)
        return [[r * n + c for c in span] for r in span] + [[r * n + c for r in span] for c in span] + boxes

    @cached_property
    def peers(self) -> list[list[int]]:
        """The cells that share a unit with each cell."""
        shared: list[set[int]] = [set() for _ in range(self.n * self.n)]
        for unit in self.units:
            for cell in unit:
                shared[cell].update(unit)
        return [sorted(cells - {cell}) for cell, cells in enumerate(shared)]

    def conflict(self, board: Sequence[int]) -> tuple[int, int] | None:
        """Two cells that hold the same number in one unit, or None."""
        for unit in self.units:
            seen: dict[int, int] = {}
            for cell in unit:
                if board[cell] and board[cell] in seen:
                    return seen[board[cell]], cell
                seen[board[cell]] = cell
        return None

    def solve(self, clues: Sequence[int], limit: int, random: Random | None = None) -> tuple[list[list[int]], int]:
        """Up to ``limit`` solutions of ``clues`` and the number of guesses made; in random order with ``random``."""
        if self.conflict(clues) is not None:
            return [], 0
        return self._search(list(clues), self._candidates(clues), limit, random)

    def _candidates(self, clues: Sequence[int]) -> list[int]:
        """For each cell the numbers that no clue forbids it, as bits."""
        candidates = [(1 << self.n) - 1] * len(clues)
        for cell, value in enumerate(clues):
            if value:
                keep = ~(1 << value - 1)
                for peer in self.peers[cell]:
                    candidates[peer] &= keep
        return candidates

    def _search(
        self, board: list[int], candidates: list[int], limit: int, random: Random | None
    ) -> tuple[list[list[int]], int]:
        peers, n = self.peers, self.n
        found: list[list[int]] = []
        guesses = 0

        def search() -> bool:
            nonlocal guesses
            best, fewest = -1, n + 1
            for cell, value in enumerate(board):
                if not value and (options := candidates[cell].bit_count()) < fewest:
                    best, fewest = cell, options
                    if options <= 1:
                        break
            if best < 0:
                found.append(list(board))
                return len(found) >= limit
            choices = [v for v in range(1, n + 1) if candidates[best] >> v - 1 & 1]
            if random is not None:
                random.shuffle(choices)
            guesses += len(choices) > 1
            for value in choices:
                bit = 1 << value - 1
                changed = [p for p in peers[best] if candidates[p] & bit]
                board[best] = value
                for p in changed:
                    candidates[p] ^= bit
                if search():
                    return True
                for p in changed:
                    candidates[p] ^= bit
            board[best] = 0
            return False

        search()
        return found, guesses

    def rating(self, clues: Sequence[int]) -> int:
        """Guesses that it takes to find the solution and prove that there is no other."""
        return self.solve(clues, 2)[1]

    def filled(self, random: Random) -> list[int]:
        """A random full board."""
        return self.solve([0] * self.n**2, 1, random)[0][0]

    def unique(self, random: Random, clues: int) -> Puzzle:
        """A puzzle with exactly one solution and about ``clues`` clues; more where no clue can be spared."""
        solution = self.filled(random)
        board, spare = list(solution), self.n**2 - clues
        for cell in random.sample(range(self.n**2), self.n**2):
            if spare <= 0:
                break
            value, board[cell] = board[cell], 0
            candidates = self._candidates(board)
            candidates[cell] &= ~(1 << value - 1)  # any other solution differs here: before, there was but one
            if self._search(list(board), candidates, 1, None)[0]:
                board[cell] = value
            else:
                spare -= 1
        return Puzzle(tuple(board), tuple(solution))
