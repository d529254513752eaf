"""Sudoku from a file: read, split, trained on; solved without it; refused where it is none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from random import Random, SystemRandom

import pytest
import torch
from small_models import tiny

from fathom.errors import InputError
from fathom.recursive.tasks import open_task
from fathom.recursive.tasks.sudoku_extreme import SudokuExtreme, read_sudoku_extreme
from fathom.recursive.tasks.sudoku_solver import Grid, Puzzle
from fathom.recursive.training import Trainer

GRID = Grid(3, 3)


def made(count: int) -> list[Puzzle]:
    """Puzzles made now, easy ones."""
    random = SystemRandom()
    return [GRID.unique(random, 45) for _ in range(count)]


def row(puzzle: Puzzle) -> str:
    question = "".join(map(str, puzzle.clues)).replace("0", ".")
    return f"here,{question},{''.join(map(str, puzzle.solution))},3\n"


def written(file: Path, puzzles: Sequence[Puzzle]) -> Path:
    file.write_text("source,question,answer,rating\n" + "".join(map(row, puzzles)))
    return file


def test_reads_all_puzzles_or_a_sample_of_the_whole_file(tmp_path: Path) -> None:
    puzzles = made(12)
    file = written(tmp_path / "puzzles.csv", [*puzzles, puzzles[0]])
    assert read_sudoku_extreme(file) == puzzles
    sample = read_sudoku_extreme(file, 5)
    assert len(sample) == 5
    assert set(sample) <= set(puzzles)
    assert sample == read_sudoku_extreme(file, 5)
    assert set(read_sudoku_extreme(file, 100)) == set(puzzles)


def test_a_damaged_file_is_one_error_that_names_the_puzzle(tmp_path: Path) -> None:
    first, second = made(2)
    file = written(tmp_path / "puzzles.csv", [first, Puzzle(second.clues, second.solution[::-1])])
    with pytest.raises(InputError, match=r"puzzles\.csv, puzzle 2: the answer does not solve"):
        read_sudoku_extreme(file)
    for hostile in (b"question,answer\n\xff\xfe,1\n", b"question,answer\n" + b"1" * 200_000 + b",1\n"):
        file.write_bytes(hostile)
        with pytest.raises(InputError, match="puzzle 1"):
            read_sudoku_extreme(file)
    file.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="columns"):
        read_sudoku_extreme(file)
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("absent.csv", "pipe.csv"):
        with pytest.raises(InputError, match="absent or no file"):
            read_sudoku_extreme(tmp_path / name)


def test_a_file_is_split_and_trained_on(tmp_path: Path) -> None:
    puzzles = made(24)
    task = open_task(f"sudoku-extreme:{written(tmp_path / 'all.csv', puzzles)}")
    splits = {split: {tuple(x) for x in task.inputs(split).tolist()} for split in ("train", "validation", "test")}
    assert set().union(*splits.values()) == {puzzle.clues for puzzle in puzzles}
    assert sorted(map(len, splits.values())) == [2, 4, 18]
    x, y = task.batch(16, torch.Generator().manual_seed(0))
    assert task.valid(x, y).all()
    trainer = Trainer(task, *tiny("trm", batch=4, mixer=8))
    trainer.advance()
    assert 0 <= trainer.validate()["score"] <= 1


def test_a_folder_has_its_own_test_file_and_shares_nothing_with_it(tmp_path: Path) -> None:
    puzzles = made(30)
    written(tmp_path / "train.csv", puzzles[:26])
    written(tmp_path / "test.csv", puzzles[20:])
    task = open_task(f"sudoku-extreme:{tmp_path}")
    assert {tuple(x) for x in task.inputs("test").tolist()} == {puzzle.clues for puzzle in puzzles[20:]}
    kept = {tuple(x) for split in ("train", "validation") for x in task.inputs(split).tolist()}
    assert kept == {puzzle.clues for puzzle in puzzles[:20]}


def test_puzzles_are_solved_without_the_file_and_too_few_are_refused(tmp_path: Path) -> None:
    task = open_task("sudoku-extreme:nowhere.csv")
    assert isinstance(task, SudokuExtreme)
    puzzle = GRID.unique(Random(2), 40)
    x = task.parse("".join(map(str, puzzle.clues)))
    assert task.valid(x[None], torch.tensor([puzzle.solution])).all()
    with pytest.raises(InputError, match="absent"):
        task.inputs("test")
    few = open_task(f"sudoku-extreme:{written(tmp_path / 'few.csv', made(6))}")
    with pytest.raises(InputError, match="too few puzzles"):
        few.inputs("validation")
