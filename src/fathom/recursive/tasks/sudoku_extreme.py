"""Sudoku-Extreme (HRM, arXiv 2506.21734): 9 × 9 puzzles of one solution each, many of them hard, from its CSV.

As in HRM and TRM, training draws from a thousand puzzles under the symmetries of Sudoku. They are taken from the whole
file at random, but always the same: such a file may be in the order of its sources.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from fathom.errors import InputError
from fathom.recursive.tasks.base import SplitName
from fathom.recursive.tasks.sudoku import Sudoku, SudokuKind
from fathom.recursive.tasks.sudoku_solver import Grid, Puzzle

__all__ = ["SudokuExtreme", "read_sudoku_extreme"]

KIND = SudokuKind(unique=1, many=0, pool=1000, held_out=300)
FEWEST = 20
"""Puzzles of a file that is split into those to train on and those to be held out."""


class SudokuExtreme(Sudoku):
    """The puzzles of a CSV, or of ``train.csv`` and ``test.csv`` in a folder. The files are read when puzzles are asked
    for: to solve others, a trained model needs none of them.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(Grid(3, 3), KIND, f"sudoku-extreme:{path}")
        self.path = path

    @cached_property
    def _puzzles(self) -> dict[SplitName, list[Puzzle]]:
        """Those of each split. Of one file, a fifth at most is for testing, and of the rest an eighth for
        validation.
        """
        test, validation = self.kind.held_out, self.kind.held_out // 3
        if self.path.is_dir():
            tested = read_sudoku_extreme(self.path / "test.csv", test)
            clues = {puzzle.clues for puzzle in tested}
            kept = read_sudoku_extreme(self.path / "train.csv", self.kind.pool + validation)
            kept = [puzzle for puzzle in kept if puzzle.clues not in clues]
        else:
            kept = read_sudoku_extreme(self.path, self.kind.pool + test + validation)
            test = min(test, len(kept) // 5)
            tested, kept = kept[:test], kept[test:]
        validation = min(validation, len(kept) // 8)
        if min(test, len(tested), validation) < 1 or len(kept) < FEWEST // 2:
            raise InputError(
                f"{self.path} has too few puzzles to train on and to hold out; at least {FEWEST} are needed"
            )
        return {"test": tested, "validation": kept[:validation], "train": kept[validation:]}

    @cached_property
    def _pool(self) -> tuple[Tensor, Tensor]:
        puzzles = self._puzzles["train"]
        return torch.tensor([p.clues for p in puzzles]), torch.tensor([p.solution for p in puzzles])

    @cached_property
    def splits(self) -> dict[SplitName, Tensor]:
        held_out: tuple[SplitName, ...] = ("test", "validation")
        return {split: torch.tensor([p.clues for p in self._puzzles[split]]) for split in held_out}

    def count(self, x: Tensor, limit: int = 1000) -> Tensor:
        """One each, which is what the file is made for: to search for more takes long where a puzzle is hard."""
        return torch.ones(len(x), dtype=torch.long)


def read_sudoku_extreme(path: Path, sample: int | None = None) -> list[Puzzle]:
    """The different puzzles of a Sudoku-Extreme CSV, columns ``question`` and ``answer`` of 81 characters each, or a
    ``sample`` of so many of its rows.

    Raises ``InputError`` that names the puzzle where the file is not of that form, or an answer does not solve its
    question. Rows that are not in the sample are not looked at.
    """
    if not path.is_file():
        raise InputError(f"{path} is absent or no file; a Sudoku-Extreme CSV was expected")
    task, random = Sudoku(Grid(3, 3), KIND), Random(0)
    kept: list[tuple[int, Mapping[str, str | None]]] = []
    number = 0
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file), 1):
                if sample is None or number <= sample:
                    kept.append((number, row))
                elif (at := random.randrange(number)) < sample:  # of all rows so far, each is as likely to be kept
                    kept[at] = number, row
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path.name}, puzzle {number + 1}: {error}") from error
    if sample is not None:
        random.shuffle(kept)
    return list(dict.fromkeys(_puzzle(task, path.name, number, row) for number, row in kept))


def _puzzle(task: Sudoku, file: str, number: int, row: Mapping[str, str | None]) -> Puzzle:
    question, answer = row.get("question"), row.get("answer")
    try:
        if question is None or answer is None:
            raise InputError("a Sudoku-Extreme file has the columns 'question' and 'answer'")
        x, y = task.parse(question), task.parse(answer)
        if not task.valid(x[None], y[None]).all():
            raise InputError("the answer does not solve the question")
    except InputError as error:
        raise InputError(f"{file}, puzzle {number}: {error}") from error
    return Puzzle(tuple(x.tolist()), tuple(y.tolist()))
