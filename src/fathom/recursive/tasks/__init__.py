"""The tasks that recursive models are trained on, by name. A task is one small file; see
:class:`~fathom.recursive.tasks.base.Task`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fathom.errors import InputError, one_of
from fathom.recursive.tasks.base import Task
from fathom.recursive.tasks.coloring import Coloring
from fathom.recursive.tasks.digits import Digits
from fathom.recursive.tasks.maze import Maze
from fathom.recursive.tasks.queens import Queens
from fathom.recursive.tasks.sudoku import Sudoku, SudokuKind
from fathom.recursive.tasks.sudoku_solver import Grid

__all__ = ["TASKS", "Task", "open_task"]

TASKS: Mapping[str, Callable[[], Task]] = {
    "queens-8": lambda: Queens(8),
    "queens-10": lambda: Queens(10, eased=0.5),
    "coloring-8": lambda: Coloring(8),
    "coloring-10": lambda: Coloring(10),
    "digits": Digits,
    "maze-10": lambda: Maze(10),
    "maze-30": lambda: Maze(30),
    "sudoku-4": lambda: Sudoku(Grid(2, 2), SudokuKind(unique_clues=(4, 7), many_clues=(2, 8), pool=400, held_out=150)),
    "sudoku-6": lambda: Sudoku(Grid(2, 3), SudokuKind()),
    "sudoku-9": lambda: Sudoku(
        Grid(3, 3), SudokuKind(unique=1, many=0, unique_clues=(28, 36), pool=1000, held_out=240)
    ),
}


def open_task(name: str) -> Task:
    """The task of that name. Raises ``InputError`` for one that does not exist."""
    if name not in TASKS:
        raise InputError(one_of("task", name, TASKS))
    return TASKS[name]()
