"""ARC-AGI from its JSON files: learn each puzzle's rule from its demonstrations, under many disguises, and vote.

As in HRM and TRM, every puzzle is shown in fixed *variants*, by a symmetry of the square and a permutation of the
colours, each with an identity of its own that the model sees at every cell. The trajectories of a search get the
variants of a question in turn; answers are carried back, so that the most frequent one wins. Grids lie in the corner of
a 30 × 30 board (or smaller), closed by a border symbol.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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
TENTH = 10
MOST_BYTES = 1 << 26
"""Of one file. All of ARC-AGI-1 has 5 MB."""

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

    Inputs have two symbols a cell: the cell's, and the identity of (puzzle, variant). Training draws demonstrations.
    The test split is the puzzles' own test pairs; for validation every tenth puzzle gives its last demonstration, so
    that no checkpoint is chosen by what it is tested on. What is right is what the file says: no question tells it.
    """

    verifies = False

    def __init__(self, path: Path, *, variants: int = 16, side: int = 30, seed: int = 0) -> None:
        puzzles = _read(path)
        self.name, self.side, self.names = f"arc:{path}", side, sorted(puzzles)
        random = Random(seed)
        self.variants = [[Variant(), *(_random_variant(random) for _ in range(variants - 1))] for _ in self.names]
        self.shape = Shape(
            length=side * side, symbols_in=max(SYMBOLS, len(self.names) * variants), symbols_out=SYMBOLS, fields=2
        )
        self.defaults: Mapping[str, Any] = {"mixing": "attention"}
        self.paper: Mapping[str, Any] = {}
        shown, self.tests = self._pairs(puzzles, "train"), self._pairs(puzzles, "test")
        self._answers = {(pair.puzzle, pair.question): pair.answer for pair in (*shown, *self.tests)}
        last = {pair.puzzle: at for at, pair in enumerate(shown) if len(puzzles[self.names[pair.puzzle]]["train"]) > 1}
        kept = set(list(last.values())[::TENTH])
        if not kept or not self.tests:
            raise InputError(
                f"{path} needs a puzzle with a test, and one with two demonstrations: one is for validation"
            )
        self.validations = [pair for at, pair in enumerate(shown) if at in kept]
        self.demonstrations = [pair for at, pair in enumerate(shown) if at not in kept]

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
        """Questions in their plain variant, puzzle by puzzle."""
        pairs = {"train": self.demonstrations, "validation": self.validations, "test": self.tests}[split]
        return torch.stack([self.encode(pair.question, pair.puzzle, 0) for pair in pairs])

    def disguises(self, x: Tensor) -> list[Tensor]:
        puzzle, variant = self._shown(x)
        question = self.grid(x[:, 0])
        if question is None:
            return [x]
        plain = variant.undo(question)
        others = [v for v, other in enumerate(self.variants[puzzle]) if other is not variant]
        return [x, *(self.encode(plain, puzzle, v) for v in others)]

    def _shown(self, x: Tensor) -> tuple[int, Variant]:
        """The puzzle that an input is of, and the variant that it is shown in."""
        puzzle, variant = divmod(int(x[0, 1]), len(self.variants[0]))
        return puzzle, self.variants[puzzle][variant]

    def valid(self, x: Tensor, answer: Tensor) -> Tensor:
        """Whether each answer is the one that the file gives for its question."""
        pairs = zip(x.cpu(), answer.cpu(), strict=True)
        return torch.tensor([self._is_right(*pair) for pair in pairs], dtype=torch.bool, device=x.device)

    def _is_right(self, x: Tensor, answer: Tensor) -> bool:
        (puzzle, variant), question, given = self._shown(x), self.grid(x[:, 0]), self.grid(answer)
        if question is None or given is None:
            return False
        return self._answers.get((puzzle, variant.undo(question))) == variant.undo(given)

    def nearest(self, x: Tensor, answer: Tensor, y: Tensor) -> Tensor:
        """``y``: a question has one answer."""
        return y

    def count(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), dtype=torch.long)

    def parse(self, text: str) -> Tensor:
        """``NAME: rows`` of digits divided by ``/``: a question to the puzzle of that name, in its plain variant."""
        name, _, rows = text.partition(":")
        if name.strip() not in self.names:
            raise InputError(
                f"{name.strip()[:40]!r} is no puzzle of {self.name}; write NAME: rows of digits divided by /"
            )
        return self.encode(self._rows(rows, name.strip()), self.names.index(name.strip()), 0)

    def read(self, text: str) -> Tensor:
        return self.board(self._rows(text, "answer"))

    def _rows(self, text: str, name: str) -> Grid:
        lines = ["".join(row.split()) for row in text.strip().replace("/", "\n").splitlines()]
        if not all(line.isascii() and line.isdigit() for line in lines):
            raise InputError("a grid's rows are digits from 0 to 9, one a cell")
        return _grid([[int(color) for color in line] for line in lines], name, self.side)

    def render(self, x: Tensor, answer: Tensor | None = None) -> str:
        """A question as :meth:`parse` reads it, an answer as rows, either as it is without its disguise; nothing where
        it is no grid.
        """
        puzzle, variant = self._shown(x)
        grid = self.grid(x[:, 0] if answer is None else answer)
        if grid is None:
            return ""
        rows = ["".join(map(str, row)) for row in variant.undo(grid)]
        return "\n".join(rows) if answer is not None else f"{self.names[puzzle]}: {'/'.join(rows)}"


def _random_variant(random: Random) -> Variant:
    return Variant(random.randrange(4), random.random() < 0.5, (0, *random.sample(range(1, 10), 9)))


def _as_grid(cells: Tensor) -> Grid:
    return tuple(tuple(int(symbol) - FIRST_COLOR for symbol in row) for row in cells)


def _read(path: Path) -> dict[str, Mapping[str, Any]]:
    """Puzzles by name, of a file that holds one or many, or of a folder of such files."""
    puzzles: dict[str, Mapping[str, Any]] = {}
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        try:
            if not file.is_file() or file.stat().st_size > MOST_BYTES:
                raise ValueError("it is absent, no file, or larger than any of them")
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
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
