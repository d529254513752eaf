"""ARC-AGI from its JSON files: learn each puzzle's rule from its demonstrations, under many disguises, and vote.

As in HRM and TRM, every puzzle is shown in fixed *variants*, by a symmetry of the square and a permutation of the
colours, each with an identity of its own that the model sees at every cell. A test input is answered in all variants;
the answers are carried back and the most frequent one wins. Grids lie in the corner of a 30 × 30 board (or smaller),
closed by a border symbol.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from fathom.errors import InputError
from fathom.recursive.config import Shape
from fathom.recursive.tasks.base import SplitName, draw

__all__ = ["Arc", "Grid", "Variant"]

PAD, BORDER, FIRST_COLOR = 0, 1, 2
SYMBOLS = 12

Grid = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Variant:
    """A disguise: quarter turns, then perhaps a transposition, then a permutation of the ten colours."""

    turns: int = 0
    transposed: bool = False
    colors: tuple[int, ...] = tuple(range(10))

    def apply(self, grid: Grid) -> Grid:
        for _ in range(self.turns):
            grid = tuple(zip(*grid[::-1], strict=True))
        if self.transposed:
            grid = tuple(zip(*grid, strict=True))
        return tuple(tuple(self.colors[color] for color in row) for row in grid)

    def undo(self, grid: Grid) -> Grid:
        inverse = {color: original for original, color in enumerate(self.colors)}
        grid = tuple(tuple(inverse[color] for color in row) for row in grid)
        if self.transposed:
            grid = tuple(zip(*grid, strict=True))
        return Variant(turns=-self.turns % 4).apply(grid)


@dataclass(frozen=True)
class _Pair:
    puzzle: int
    question: Grid
    answer: Grid


class Arc:
    """The puzzles of one JSON file, or of a folder of them, each in ``variants`` variants of which the first is the
    plain one.

    Inputs have two symbols a cell: the cell's, and the identity of (puzzle, variant). Training draws demonstrations;
    the held-out split is the puzzles' own test pairs, in all variants, puzzle by puzzle.
    """

    def __init__(self, path: Path, *, variants: int = 16, side: int = 30, seed: int = 0) -> None:
        puzzles = _read(path)
        self.name, self.side, self.names = f"arc-{path.stem}", side, sorted(puzzles)
        random = Random(seed)
        self.variants = [[Variant(), *(_random_variant(random) for _ in range(variants - 1))] for _ in self.names]
        self.shape = Shape(
            length=side * side, symbols_in=max(SYMBOLS, len(self.names) * variants), symbols_out=SYMBOLS, fields=2
        )
        self.defaults: Mapping[str, Any] = {"mixing": "attention"}
        self.demonstrations = self._pairs(puzzles, "train")
        self.tests = self._pairs(puzzles, "test")

    def _pairs(self, puzzles: Mapping[str, Mapping[str, Any]], part: str) -> list[_Pair]:
        return [
            _Pair(number, _grid(pair["input"], name, self.side), _grid(pair["output"], name, self.side))
            for number, name in enumerate(self.names)
            for pair in puzzles[name][part]
        ]

    def encode(self, grid: Grid, puzzle: int, variant: int) -> Tensor:
        """The input, (L, 2), that shows ``grid`` in a variant of a puzzle."""
        cells = self.board(self.variants[puzzle][variant].apply(grid))
        identity = puzzle * len(self.variants[puzzle]) + variant
        return torch.stack((cells, torch.full_like(cells, identity)), -1)

    def board(self, grid: Grid) -> Tensor:
        """A grid as symbols, (L,)."""
        board = torch.full((self.side, self.side), PAD)
        rows, columns = len(grid), len(grid[0])
        board[: rows + 1, : columns + 1] = BORDER
        board[:rows, :columns] = torch.tensor(grid) + FIRST_COLOR
        return board.flatten()

    def grid(self, symbols: Tensor) -> Grid | None:
        """The grid that a board shows, or None where it shows none: no border, or no rectangle of colours within it."""
        board = symbols.view(self.side, self.side)
        filled = board >= FIRST_COLOR
        rows, columns = int(filled[:, 0].sum()), int(filled[0].sum())
        if not rows or not columns or not filled[:rows, :columns].all():
            return None
        grid = _as_grid(board[:rows, :columns])
        return grid if torch.equal(self.board(grid), symbols) else None

    def batch(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = draw(len(self.demonstrations), count, generator).tolist()
        variants = draw(len(self.variants[0]), count, generator).tolist()
        pairs = [(self.demonstrations[i], v) for i, v in zip(chosen, variants, strict=True)]
        x = torch.stack([self.encode(pair.question, pair.puzzle, v) for pair, v in pairs])
        return x, torch.stack([self.board(self.variants[pair.puzzle][v].apply(pair.answer)) for pair, v in pairs])

    def inputs(self, split: SplitName) -> Tensor:
        pairs = self.demonstrations if split == "train" else self.tests
        return torch.stack([self.encode(p.question, p.puzzle, v) for p in pairs for v in range(len(self.variants[0]))])

    def valid(self, x: Tensor, answer: Tensor) -> Tensor:
        """Whether each answer is the one that the file gives for its question."""
        known = {
            self.encode(p.question, p.puzzle, v).numpy().tobytes(): self.board(variant.apply(p.answer))
            for p in [*self.demonstrations, *self.tests]
            for v, variant in enumerate(self.variants[p.puzzle])
        }
        given = [known.get(question.numpy().tobytes()) for question in x.cpu()]
        right = [k is not None and torch.equal(k, a) for k, a in zip(given, answer.cpu(), strict=True)]
        return torch.tensor(right, device=x.device)

    def nearest(self, x: Tensor, answer: Tensor, y: Tensor) -> Tensor:
        """``y``: a question has one answer."""
        return y

    def count(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), dtype=torch.long)

    def vote(self, puzzle: int, answers: Sequence[Tensor]) -> list[tuple[Grid, int]]:
        """Grids that ``answers``, one for each variant of a puzzle in turn, stand for once carried back, with their
        votes, most first.
        """
        grids = [self.grid(answer) for answer in answers]
        plain = [v.undo(g) for v, g in zip(self.variants[puzzle], grids, strict=False) if g is not None]
        return Counter(plain).most_common()

    def parse(self, text: str) -> Tensor:
        """``NAME: rows`` of digits divided by ``/``: a question to the puzzle of that name, in its plain variant."""
        name, _, rows = text.partition(":")
        if name.strip() not in self.names:
            raise InputError(
                f"{name.strip()[:40]!r} is no puzzle of {self.name}; write NAME: rows of digits divided by /"
            )
        lines = ["".join(row.split()) for row in rows.strip().replace("/", "\n").splitlines()]
        if not all(line.isascii() and line.isdigit() for line in lines):
            raise InputError("a grid's rows are digits from 0 to 9, one a cell")
        grid = _grid([[int(color) for color in line] for line in lines], name.strip(), self.side)
        return self.encode(grid, self.names.index(name.strip()), 0)

    def render(self, x: Tensor, answer: Tensor | None = None) -> str:
        grid = self.grid(x[:, 0] if answer is None else answer)
        return "(no grid)" if grid is None else "\n".join("".join(map(str, row)) for row in grid)


def _random_variant(random: Random) -> Variant:
    return Variant(random.randrange(4), random.random() < 0.5, (0, *random.sample(range(1, 10), 9)))


def _as_grid(cells: Tensor) -> Grid:
    return tuple(tuple(int(symbol) - FIRST_COLOR for symbol in row) for row in cells)


def _read(path: Path) -> dict[str, Mapping[str, Any]]:
    """Puzzles by name, of a file that holds one or many, or of a folder of such files."""
    puzzles: dict[str, Mapping[str, Any]] = {}
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        try:
            content = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{file} is no ARC file: {error}") from error
        if not isinstance(content, dict):
            raise InputError(f"{file} is no ARC file: an object was expected, not a {type(content).__name__}")
        named = {file.stem: content} if "train" in content else content
        for name, puzzle in named.items():
            if not isinstance(puzzle, dict) or not all(
                isinstance(puzzle.get(part), list) for part in ("train", "test")
            ):
                raise InputError(f"{file}: puzzle {name!r} has no lists 'train' and 'test'")
            for pair in [*puzzle["train"], *puzzle["test"]]:
                if not isinstance(pair, dict) or not {"input", "output"} <= pair.keys():
                    raise InputError(f"{file}: a pair of puzzle {name!r} lacks 'input' or 'output'")
            puzzles[name] = puzzle
    if not puzzles:
        raise InputError(f"{path} holds no ARC puzzles")
    return puzzles


def _grid(rows: Any, name: str, side: int) -> Grid:
    """A grid as tuples. Raises ``InputError`` where it is no rectangle of colours 0 to 9, or too large to leave room
    for its border.
    """
    rectangle = (
        isinstance(rows, list) and rows and all(isinstance(r, list) and r and len(r) == len(rows[0]) for r in rows)
    )
    if not rectangle or not all(type(c) is int and 0 <= c <= 9 for r in rows for c in r):
        raise InputError(f"puzzle {name!r}: a grid is a rectangle of colours from 0 to 9")
    if max(len(rows), len(rows[0])) > side:
        raise InputError(f"puzzle {name!r}: a grid of {len(rows)}×{len(rows[0])} does not fit into {side}×{side}")
    return tuple(tuple(row) for row in rows)
