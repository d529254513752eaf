"""``fathom solve`` on puzzles, as people write them: a process of its own with a shipped checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from random import Random

import pytest

from fathom.recursive.tasks.sudoku_solver import Grid

FATHOM = [sys.executable, "-c", "from fathom.cli import main; main()"]
GRID = Grid(2, 3)


def solve(model: str, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FATHOM, "solve", "--model", f"recursive:{model}", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=280,
        stdin=None if stdin else subprocess.DEVNULL,
    )


def sudoku(seed: int) -> tuple[str, str]:
    """A 6×6 puzzle with one solution, and that solution; both in one line."""
    puzzle = GRID.unique(Random(seed), 13)
    return "".join(str(d or ".") for d in puzzle.clues), "".join(map(str, puzzle.solution))


def rows(line: str, divided: str) -> str:
    return divided.join(line[i : i + 6] for i in range(0, 36, 6))


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "way"), [(0, "argument"), (1, "file"), (2, "standard input")])
def test_a_puzzle_comes_in_any_way_and_form_and_the_board_in_the_same_form(seed: int, way: str, tmp_path: Path) -> None:
    puzzle, solution = sudoku(seed)
    if way == "argument":
        done = solve("sudoku-6", rows(puzzle, "/"))
        assert done.stdout == rows(solution, "/") + "\n"
    elif way == "file":
        (tmp_path / "puzzle.txt").write_text(rows(puzzle, "\n") + "\n")
        done = solve("sudoku-6", "--file", str(tmp_path / "puzzle.txt"))
        assert done.stdout == rows(solution, "\n") + "\n"
    else:
        done = solve("sudoku-6", stdin=puzzle)
        assert done.stdout == solution + "\n"
    assert done.returncode == 0
    assert "verified" in done.stderr
    assert "recursive:sudoku-6" in done.stderr


@pytest.mark.slow
def test_json_has_the_answer_whether_it_is_valid_and_what_it_took() -> None:
    edges = sorted(Random(0).sample(list(combinations(range(8), 2)), 5))
    done = solve("coloring-8", " ".join(f"{a}-{b}" for a, b in edges), "--json", "--strategy", "vote(width=4)")
    receipt = json.loads(done.stdout)
    colors = [int(pair.partition(":")[2]) for pair in receipt["answer"].split()]
    assert receipt["valid"] is True
    assert len(colors) == 8
    assert all(colors[a] != colors[b] for a, b in edges)
    assert (receipt["strategy"], receipt["model"]) == ("vote(width=4)", "recursive:coloring-8")
    assert receipt["spent"]["flops"] > 0
    assert 1 <= receipt["spent"]["depth"] <= 64


@pytest.mark.slow
def test_a_puzzle_without_a_solution_ends_in_none_found() -> None:
    board = list("." * 36)
    board[0:5], board[11] = "12345", "6"  # the last cell of the first row can only be 6, and its column has one
    puzzle = "".join(board)
    assert not GRID.solve([0 if c == "." else int(c) for c in puzzle], 1)[0]
    done = solve("sudoku-6", puzzle, "--json", "--depth", "4", "--width", "4")
    receipt = json.loads(done.stdout)
    assert done.returncode == 3
    assert (receipt["answer"], receipt["valid"]) == ("", False)
    assert done.stderr.startswith("fathom: none found")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["123"], ["--memory", "10", "." * 36]])
def test_bad_input_is_one_clear_error(arguments: list[str]) -> None:
    done = solve("sudoku-6", *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("fathom: ")
    assert len(done.stderr.strip().splitlines()) == 1


def test_models_lists_the_shipped_checkpoints_without_loading_torch() -> None:
    listing = "import sys; from fathom.models import available; print(available()); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, timeout=200, check=True)
    assert "queens-8" in done.stdout
    assert done.stdout.endswith("False\n")
