"""The laws of a task, for every task, on freshly drawn problems."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.errors import InputError
from fathom.recursive.tasks import TASKS, Task, open_task, settings_for
from fathom.recursive.tasks.digits import Digits
from fathom.recursive.tasks.maze import Maze
from fathom.recursive.tasks.queens import Queens, solutions
from fathom.recursive.tasks.sudoku import Sudoku, SudokuKind
from fathom.recursive.tasks.sudoku_solver import Grid

QUICK = ("queens-8", "queens-6-eased", "coloring-8", "sudoku-4", "sudoku-6-small", "maze-10-small")


@cache
def opened(name: str) -> Task:
    """A task, with few puzzles where making them takes time."""
    if name == "queens-6-eased":
        return Queens(6, eased=0.5)
    if name == "sudoku-6-small":
        return Sudoku(Grid(2, 3), SudokuKind(pool=40, held_out=15))
    if name == "maze-10-small":
        return Maze(10, pool=40, held_out=15)
    return open_task(name)


def drawn(name: str, seed: int, count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    return opened(name).batch(count, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", QUICK)
@given(seed=st.integers(0, 2**31))
@settings(max_examples=15)
def test_drawn_answers_are_valid_and_damaged_ones_are_not(name: str, seed: int) -> None:
    task, (x, y) = opened(name), drawn(name, seed)
    assert task.valid(x, y).all()
    assert (task.count(x) >= 1).all()
    damaged = y.clone()
    cell = seed % task.shape.length
    # On a board any single changed cell breaks a rule; of a graph, a vertex given its neighbour's colour does.
    if task.shape.fields == 1:
        damaged[:, cell] = (y[:, cell] + 1) % task.shape.symbols_out
        assert not task.valid(x, damaged).any()
    else:
        joined = x[:, cell].any(-1)
        damaged[:, cell] = y.gather(1, x[:, cell].argmax(-1, keepdim=True))[:, 0]
        assert not task.valid(x, damaged)[joined].any()


@pytest.mark.parametrize("name", QUICK)
@given(seed=st.integers(0, 2**31))
@settings(max_examples=15)
def test_the_nearest_answer_is_valid_no_farther_than_the_target_and_fixed_where_right(name: str, seed: int) -> None:
    task, (x, y) = opened(name), drawn(name, seed)
    generator = torch.Generator().manual_seed(seed)
    noisy = torch.where(
        torch.rand(y.shape, generator=generator) < 0.5,
        torch.randint(task.shape.symbols_out, y.shape, generator=generator),
        y,
    )
    near = task.nearest(x, noisy, y)
    assert task.valid(x, near).all()
    assert ((near == noisy).sum(-1) >= (y == noisy).sum(-1)).all()
    assert torch.equal(task.nearest(x, y, near), y)


@pytest.mark.parametrize("name", QUICK)
@given(seed=st.integers(0, 2**31))
@settings(max_examples=15)
def test_parse_reads_what_render_writes(name: str, seed: int) -> None:
    task, (x, y) = opened(name), drawn(name, seed, 2)
    for board in x:
        text = task.render(board)
        assert torch.equal(task.parse(text), board)
        assert torch.equal(task.parse(text.replace("\n", "/")), board)
    if name.startswith(("queens", "sudoku")):
        assert torch.equal(task.parse(task.render(x[0], y[0])), y[0])


@pytest.mark.parametrize("name", QUICK)
def test_no_input_of_one_split_occurs_in_another(name: str) -> None:
    task = opened(name)
    splits = {split: {row.numpy().tobytes() for row in task.inputs(split)} for split in ("train", "validation", "test")}
    assert (
        not splits["train"] & splits["validation"]
        | splits["train"] & splits["test"]
        | splits["validation"] & splits["test"]
    )
    assert all(len(rows) == len(task.inputs(split)) for split, rows in splits.items() if split != "train")
    held_out = splits["validation"] | splits["test"]
    assert not held_out & {row.numpy().tobytes() for seed in range(20) for row in drawn(name, seed, 64)[0]}


@pytest.mark.parametrize("name", QUICK)
def test_a_task_opened_twice_is_the_same(name: str) -> None:
    first, again = opened(name), opened.__wrapped__(name)
    assert torch.equal(first.inputs("test"), again.inputs("test"))
    for one, other in zip(drawn(name, 5), again.batch(8, torch.Generator().manual_seed(5)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("queens-8", "Q......./" * 7, "8 rows"),
        ("queens-8", "Q......./" + "......../" * 6 + ".......", "row 8"),
        ("queens-8", "X......./" + "......../" * 7, "'X'"),
        ("queens-8", "Q.Q...../" + "......../" * 7, "share a row"),
        ("queens-8", "Q......./Q......./" + "......../" * 6, "share a column"),
        ("queens-8", "Q......./.Q....../" + "......../" * 6, "share a diagonal"),
        ("sudoku-4", "11../..../..../....", "both hold 1"),
        ("sudoku-4", "5.../..../..../....", "'5'"),
        ("sudoku-9", "." * 80, "9 rows"),
        ("sudoku-9", "1" * 81, "contradicts itself"),
        ("coloring-8", "0-1 2-9", "vertex 9"),
        ("coloring-8", "3-3", "with itself"),
        ("coloring-8", "0-1 hello", "'hello'"),
        ("coloring-8", "0-" + "9" * 400, "is no edge"),
        ("sudoku-4", "", "0 row"),
        ("maze-10-small", "S........./" + "########../" * 8 + "..........", "one G"),
        ("maze-10-small", "S........./" + "##########/" * 8 + ".........G", "no way leads"),
    ],
)
def test_bad_input_is_one_clear_error(name: str, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        opened(name).parse(text)


PAPER = {
    "width": 512,
    "heads": 8,
    "ffn": 512,
    "layers": 2,
    "mixing": "attention",
    "positions": "rope",
    "inner": 4,
    "transitions": 3,
    "supervision": 16,
    "early": "deterministic",
    "mode": "paper",
    "batch": 768,
    "learning_rate": 1e-4,
    "weight_decay": 1.0,
    "clip": 1.0,
    "ema": 0.9999,
}


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("queens-8", {"beta": 0.07}),
        ("queens-10", {"beta": 0.045}),
        ("coloring-8", {"beta": 0.5}),
        ("coloring-10", {"beta": 0.45}),
        ("sudoku-6", {"beta": 0.1, "inner": 6, "mixing": "sequence"}),
        ("sudoku-9", {"beta": 0.1, "inner": 6, "mixing": "sequence", "mixer": 512}),
        ("digits", {"beta": 0.07}),
        ("maze-30", {}),
    ],
)
def test_size_paper_is_the_papers_settings_and_what_one_sets_goes_before_them(name: str, own: dict[str, Any]) -> None:
    model, training = settings_for(open_task(name), "gram", "paper")
    assert {**PAPER, **own}.items() <= {**asdict(model), **asdict(training)}.items()
    changed = settings_for(open_task(name), "gram", "paper", beta=0.2, inner=3)
    assert (changed[0].inner, changed[1].beta) == (3, 0.2)


def test_at_other_sizes_the_task_goes_before_the_size_and_the_preset_before_both() -> None:
    task = open_task("sudoku-9")
    model, training = settings_for(task, "gram", "small")
    assert (model.width, model.mixer, model.inner, training.beta) == (128, 81, 3, 0.5)
    assert settings_for(task, "hrm", "small")[0].inner == 2
    trm, halting = settings_for(task, "trm", "paper")
    assert (trm.shared, trm.inner, halting.reconstruction, halting.halt_weight) == (True, 6, "stable-max", 0.5)


def test_unknown_tasks_are_refused() -> None:
    with pytest.raises(InputError, match="Did you mean 'queens-8'"):
        open_task("queens-9")
    assert all(open_task(name).name == name for name in TASKS)


def test_known_numbers_of_solutions() -> None:
    assert [len(solutions(n)) for n in (4, 5, 6, 7, 8)] == [2, 10, 4, 40, 92]
    assert len(Grid(2, 2).solve([0] * 16, 1000)[0]) == 288
    triangle = opened("coloring-8").parse("0-1 1-2 0-2 2-3 2-4 2-5 2-6 2-7 0-3 0-4 0-5 0-6 0-7")
    assert opened("coloring-8").count(triangle[None]).tolist() == [1]
    assert opened("coloring-8").count(opened("coloring-8").parse("0-1 0-2 0-3 1-2 1-3 2-3")[None]).tolist() == [0]


@given(seed=st.integers(0, 2**31))
@settings(max_examples=5)
def test_made_puzzles_have_one_solution(seed: int) -> None:
    grid = Grid(2, 3)
    puzzle = grid.unique(Random(seed), 10)
    assert grid.solve(puzzle.clues, 3)[0] == [list(puzzle.solution)]
    assert all(clue in (0, value) for clue, value in zip(puzzle.clues, puzzle.solution, strict=True))


def test_rating_is_zero_for_singles_and_grows_with_guessing() -> None:
    grid = Grid(3, 3)
    hard = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4.."
    easy = grid.unique(Random(1), 50)
    assert grid.rating(easy.clues) == 0
    assert grid.rating([int(c) if c != "." else 0 for c in hard]) > 10


def test_maze_paths_are_shortest_and_a_detour_is_none() -> None:
    task = opened("maze-10-small")
    x = task.parse("S..#######/.#.#######/...#######/##.......#/########.#/" + "########.#/" * 4 + "########G#")
    assert task.count(x[None]).tolist() == [2]
    path = task.nearest(x[None], torch.zeros(1, 100, dtype=torch.long), torch.zeros(1, 100, dtype=torch.long))
    assert task.valid(x[None], path).all()
    detour = path.clone()
    detour[0, torch.tensor([0, 1, 2, 10, 20, 21, 22, 12])] = 1
    assert not task.valid(x[None], detour).any()
    assert task.render(x, path[0]).count("o") == int(path.sum()) - 2


def test_a_digit_is_valid_near_a_real_one_and_blank_is_the_only_input() -> None:
    task = Digits()
    assert task.valid(task.inputs("test")[: len(task.held_out)], task.held_out[:64]).all()
    noise = torch.randint(2, (64, 64), generator=torch.Generator().manual_seed(0))
    assert not task.valid(noise, noise).any()
    x, y = task.batch(32, torch.Generator().manual_seed(0))
    assert not x.any()
    held_out = {picture.numpy().tobytes() for picture in task.held_out}
    assert not held_out & {picture.numpy().tobytes() for picture in y}
    assert torch.equal(task.nearest(x, y, y.flip(0)), y)


def test_eased_boards_show_more_of_their_answer_than_held_out_ones() -> None:
    task = open_task("queens-10")
    x, y = task.batch(400, torch.Generator().manual_seed(0))
    shown = x.sum(-1)
    assert (y >= x).all()
    assert 0.25 < (shown > 3).float().mean() < 0.5
    assert shown.max() >= 8
    assert task.inputs("test").sum(-1).max() == 3


def test_eased_puzzles_show_more_of_their_solution_and_keep_it() -> None:
    kind = SudokuKind(unique=1, many=0, unique_clues=(4, 6), pool=40, held_out=30, eased=0.5)
    task = Sudoku(Grid(2, 2), kind)
    x, y = task.batch(600, torch.Generator().manual_seed(0))
    assert ((x == 0) | (x == y)).all()
    assert task.valid(x, y).all()
    clues = (x > 0).sum(-1)
    hardest = (task.inputs("test") > 0).sum(-1).max()
    assert 0.25 < (clues > hardest).float().mean() < 0.5
    assert clues.max() >= 15
