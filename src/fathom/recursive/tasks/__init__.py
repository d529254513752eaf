"""The tasks that recursive models are trained on, by name; some are made from files of the user's, ``arc:PATH``. A task
is one small file; see :class:`~fathom.recursive.tasks.base.Task`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from fathom.errors import InputError, one_of
from fathom.recursive.tasks.arc import Arc
from fathom.recursive.tasks.base import Task, settings_for
from fathom.recursive.tasks.coloring import Coloring
from fathom.recursive.tasks.digits import Digits
from fathom.recursive.tasks.maze import Maze
from fathom.recursive.tasks.mnist import Mnist
from fathom.recursive.tasks.queens import Queens
from fathom.recursive.tasks.sudoku import Sudoku, SudokuKind
from fathom.recursive.tasks.sudoku_extreme import SudokuExtreme
from fathom.recursive.tasks.sudoku_solver import Grid

__all__ = ["FROM_FILES", "TASKS", "Task", "open_task", "settings_for"]

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
        Grid(3, 3), SudokuKind(unique=1, many=0, unique_clues=(28, 36), pool=1000, held_out=240, eased=0.5)
    ),
}


FROM_FILES: Mapping[str, Callable[[Path], Task]] = {"arc": Arc, "mnist": Mnist, "sudoku-extreme": SudokuExtreme}
"""Tasks that are named with a path, ``arc:PATH``."""


def open_task(name: str) -> Task:
    """The task of that name. Raises ``InputError`` for one that does not exist, or whose file is none of its kind."""
    kind, _, path = name.partition(":")
    if kind in FROM_FILES and path:
        return FROM_FILES[kind](Path(path))
    if kind in FROM_FILES:
        raise InputError(f"the task {kind!r} is made from files: name them, as in {kind}:PATH")
    if name not in TASKS:
        raise InputError(one_of("task", name, [*TASKS, *(f"{kind}:PATH" for kind in FROM_FILES)]))
    return TASKS[name]()
