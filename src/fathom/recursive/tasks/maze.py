"""Mazes: mark a shortest path from S to G (HRM, arXiv 2506.21734, has them on 30 × 30 cells).

A maze is a random spanning tree of corridors with some walls opened, so that there may be several shortest paths: any
of them is right, and the nearest one to an answer is found exactly, by dynamic programming over the layers of equal
distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from random import Random
from typing import Any

import torch
from torch import Tensor

from fathom.errors import InputError
from fathom.recursive.config import Shape
from fathom.recursive.tasks.base import SplitName, draw, read_board, show_board, unseen

__all__ = ["Maze"]

WALL, OPEN, START, GOAL = range(4)
LETTERS = "#.SG"
PATH_LETTER = "o"


class Maze:
    """n × n cells. An answer marks the cells of a path, S and G among them, with 1."""

    verifies = True

    def __init__(self, n: int = 30, pool: int = 1000, held_out: int = 200) -> None:
        self.name, self.n, self.pool, self.held_out = f"maze-{n}", n, pool, held_out
        self.shape = Shape(length=n * n, symbols_in=4, symbols_out=2)
        self.defaults: Mapping[str, Any] = {"mixing": "attention", "positions": "learned"}
        self.paper: Mapping[str, Any] = {}
        self._neighbors = [
            [
                (r + dr) * n + c + dc
                for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0))
                if 0 <= r + dr < n and 0 <= c + dc < n
            ]
            for r in range(n)
            for c in range(n)
        ]

    @cached_property
    def splits(self) -> dict[SplitName, Tensor]:
        random, seen = Random(0), set[bytes]()
        sizes: dict[SplitName, int] = {"test": self.held_out, "validation": self.held_out // 2, "train": self.pool}
        return {split: unseen(lambda _: self._maze(random), size, seen) for split, size in sizes.items()}

    def inputs(self, split: SplitName) -> Tensor:
        return self.splits[split]

    def batch(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = self.splits["train"][draw(self.pool, count, generator)]
        wish = torch.randint(2, x.shape, generator=generator)
        return x, torch.stack(
            [self._best_path(board, liked) for board, liked in zip(x.tolist(), wish.tolist(), strict=True)]
        )

    def _maze(self, random: Random) -> Tensor:
        """Corridors between the cells of even row and column, carved depth first; one wall in ten opened; S and G far
        apart.
        """
        n, board = self.n, [WALL] * self.n**2
        stack = [0]
        board[0] = OPEN
        while stack:
            r, c = divmod(stack[-1], n)
            ways = [(2, 0), (0, 2), (-2, 0), (0, -2)]
            random.shuffle(ways)
            for dr, dc in ways:
                to = (r + dr) * n + c + dc
                if 0 <= r + dr < n and 0 <= c + dc < n and board[to] == WALL:
                    board[to] = board[(r + dr // 2) * n + c + dc // 2] = OPEN
                    stack.append(to)
                    break
            else:
                stack.pop()
        for cell in random.sample(range(n * n), n * n // 10):
            board[cell] = OPEN
        # An opened wall may lie apart from the corridors; from the first corridor, all others are reached.
        start = random.choice(list(self._distances(board, 0)))
        distance = self._distances(board, start)
        farthest = max(distance.values())
        goal = random.choice([cell for cell, far in distance.items() if far >= max(1, farthest // 2)])
        board[start], board[goal] = START, GOAL
        return torch.tensor(board)

    def _distances(self, board: list[int], source: int) -> dict[int, int]:
        """Steps from ``source`` to every cell that can be reached."""
        distance, frontier = {source: 0}, [source]
        for cell in frontier:
            for neighbor in self._neighbors[cell]:
                if board[neighbor] != WALL and neighbor not in distance:
                    distance[neighbor] = distance[cell] + 1
                    frontier.append(neighbor)
        return distance

    def _best_path(self, board: list[int], liked: list[int]) -> Tensor:
        """Of all shortest paths, one with most cells of ``liked``."""
        start, goal = board.index(START), board.index(GOAL)
        distance = self._distances(board, goal)
        best: dict[int, tuple[int, int]] = {goal: (liked[goal], goal)}
        for cell in list(distance)[1:]:
            onward = [n for n in self._neighbors[cell] if distance.get(n, -1) == distance[cell] - 1]
            following = max(onward, key=lambda n: best[n][0])
            best[cell] = (best[following][0] + liked[cell], following)
        path, cell = torch.zeros(len(board), dtype=torch.long), start
        path[goal] = 1
        while cell != goal:
            path[cell] = 1
            cell = best[cell][1]
        return path

    def valid(self, x: Tensor, answer: Tensor) -> Tensor:
        checks = [self._is_shortest(board, marks) for board, marks in zip(x.tolist(), answer.tolist(), strict=True)]
        return torch.tensor(checks, dtype=torch.bool, device=x.device)

    def _is_shortest(self, board: list[int], marks: list[int]) -> bool:
        goal = board.index(GOAL)
        distance = self._distances(board, goal)
        cell, length = board.index(START), distance.get(board.index(START), -1)
        if length < 0 or sum(marks) != length + 1 or not marks[cell] or not marks[goal]:
            return False
        while cell != goal:
            onward = [n for n in self._neighbors[cell] if marks[n] and distance.get(n, -1) == distance[cell] - 1]
            if len(onward) != 1:
                return False
            cell = onward[0]
        return True

    def nearest(self, x: Tensor, answer: Tensor, y: Tensor) -> Tensor:
        """Exact: all shortest paths have one length, so that most marked cells in common is most agreement."""
        paths = [self._best_path(board, marks) for board, marks in zip(x.tolist(), answer.tolist(), strict=True)]
        return torch.stack(paths).to(x.device)

    def count(self, x: Tensor) -> Tensor:
        return torch.tensor([self._count(board) for board in x.tolist()])

    def _count(self, board: list[int]) -> int:
        distance = self._distances(board, board.index(GOAL))
        ways: dict[int, int] = {}
        for cell, far in distance.items():
            onward = [n for n in self._neighbors[cell] if distance.get(n, -1) == far - 1]
            ways[cell] = sum(ways[n] for n in onward) if far else 1
        return min(ways.get(board.index(START), 0), 2**62)

    def parse(self, text: str) -> Tensor:
        what = f"a {self.n}×{self.n} maze"
        x = read_board(text, self.n, {letter: symbol for symbol, letter in enumerate(LETTERS)}, what)
        for symbol, letter in ((START, "S"), (GOAL, "G")):
            if (found := int((x == symbol).sum())) != 1:
                raise InputError(f"{what} has one {letter}, but {found} were given")
        if not self._count(x.tolist()):
            raise InputError("the maze contradicts itself: no way leads from S to G")
        return x

    def render(self, x: Tensor, answer: Tensor | None = None) -> str:
        if answer is None:
            return show_board(x, self.n, LETTERS)
        return show_board(torch.where((answer == 1) & (x == OPEN), 4, x), self.n, LETTERS + PATH_LETTER)
