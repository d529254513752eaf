"""Recursive models behind the searches of language models: shipped checkpoints, on puzzles drawn afresh."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from random import SystemRandom
from typing import Any

import pytest
import torch

import fathom
from fathom import Budget
from fathom.budget import Meter
from fathom.errors import CapabilityError, InputError, LimitError, ModelFileError, NoAnswer, UnknownModel, UsageError
from fathom.lab.datasets import load_dataset
from fathom.lab.identity import terms_of
from fathom.models import open_model
from fathom.reasoner import Expansion
from fathom.records import Problem, Result, StopReason, Trajectory
from fathom.recursive.checkpoint import Checkpoint, save_checkpoint
from fathom.recursive.library import shipped
from fathom.recursive.reasoner import RecursiveReasoner, open_recursive
from fathom.recursive.session import RecursiveSession
from fathom.recursive.tasks import Task, open_task
from fathom.recursive.tasks.sudoku_solver import Grid

STRATEGIES = [
    "best-of-n(width=8)",
    "vote(width=8)",
    "first",
    "halving(width=8, units=2)",
    "beam(width=8)",
    "dvts(width=8)",
    "rebase(width=8)",
    "particles(width=8)",
    "vote(width=6) | best-of-n(width=6)",
    "first | halving(width=8, units=1)",
]


def fresh(task: Task, count: int = 1) -> list[str]:
    """Puzzles drawn anew in every run."""
    x, _ = task.batch(count, torch.Generator().manual_seed(SystemRandom().randrange(2**31)))
    return [task.render(puzzle) for puzzle in x]


async def answered(model: RecursiveReasoner, **asked: Any) -> tuple[str, Result]:
    """The first of a dozen fresh puzzles that a search answers, and its result: it may miss some, and says so."""
    for puzzle in fresh(model.task, 12):
        with suppress(NoAnswer):
            return puzzle, await fathom.asolve(model, puzzle, **asked)
    pytest.fail("a search found nothing for any of a dozen puzzles")


def keeps_the_rules(board: str, puzzle: str) -> bool:
    """Whether a board of 8 queens, as rows, solves a puzzle: worked out from the text alone."""
    rows = board.replace("/", "\n").splitlines()
    queens = [(r, c) for r, row in enumerate(rows) for c, cell in enumerate(row) if cell == "Q"]
    apart = all(a != c and b != d and abs(a - c) != abs(b - d) for (a, b), (c, d) in combinations(queens, 2))
    given = [
        (r, c) for r, row in enumerate(puzzle.replace("/", "\n").splitlines()) for c, x in enumerate(row) if x == "Q"
    ]
    return apart and len(queens) == 8 and set(given) <= set(queens)


@pytest.fixture(scope="module")
def model() -> RecursiveReasoner:
    reasoner = fathom.open("recursive:queens-8")
    assert isinstance(reasoner, RecursiveReasoner)
    return reasoner


async def session_of(model: RecursiveReasoner, puzzle: str, meter: Meter, seed: int = 0) -> RecursiveSession:
    return await model.open(Problem.of(puzzle), meter, seed=seed)


async def grow(session: RecursiveSession, expansion: Expansion, meter: Meter) -> list[Trajectory]:
    return [trajectory async for trajectory in session.expand(expansion, meter)]


async def stepping(meter: Meter) -> None:
    """Wait until the first step is done, so that the second one is under way."""
    while not meter.spent.flops:  # noqa: ASYNC110 - nothing is told of a step
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_every_search_solves_puzzles_and_calls_only_right_boards_valid(
    model: RecursiveReasoner, strategy: str
) -> None:
    found = 0
    for puzzle in fresh(model.task, 8):
        try:
            result = await fathom.asolve(model, puzzle, strategy=strategy)
        except NoAnswer:
            continue
        assert result.receipt.valid is True
        assert keeps_the_rules(result.answer, puzzle)
        spent = result.receipt.spent
        assert spent.tokens == 0
        assert spent.calls >= spent.width >= 1
        assert spent.flops > 0
        assert spent.memory_bytes > 0
        if (found := found + 1) == 3:
            break
    assert found == 3


async def test_the_first_right_board_ends_the_search_that_runs_by_default(model: RecursiveReasoner) -> None:
    _, result = await answered(model)
    assert result.receipt.stopped is StopReason.VERIFIED
    assert result.confidence == 1.0
    best = next(t for t in result.trajectories if t.answer == result.answer)
    assert (best.reason, best.finished, best.valid) == ("verified", True, True)


async def test_votes_are_among_right_boards(model: RecursiveReasoner) -> None:
    puzzle, result = await answered(model, strategy="vote(width=12, stop=never)", budget=Budget(depth=2))
    ended = [t for t in result.trajectories if t.answer is not None]
    assert len(ended) == 12
    assert all(t.valid == keeps_the_rules(t.answer or "", puzzle) == t.parsed for t in ended)
    assert keeps_the_rules(result.answer, puzzle)
    assert {c.votes for c in result.receipt.candidates if c.answer == result.answer} == {
        sum(t.answer == result.answer for t in ended)
    }


async def test_a_graph_that_three_colours_do_not_suffice_for_has_no_answer() -> None:
    model = await open_recursive("coloring-8")
    vertices = SystemRandom().sample(range(8), 4)
    clique = " ".join(f"{a}-{b}" for a, b in combinations(vertices, 2))
    try:
        for strategy in (None, "vote(width=4)", "first", "beam(width=4, steps=3)", "direct"):
            with pytest.raises(NoAnswer, match="none found") as caught:
                await fathom.asolve(model, clique, strategy=strategy, budget=Budget(depth=6))
            receipt = caught.value.receipt
            assert receipt is not None
            assert (receipt.answer, receipt.valid, receipt.confidence) == ("", False, 0.0)
            assert "none found" in receipt.notes[-1]
    finally:
        await model.aclose()


async def test_no_interim_answer_is_a_wrong_board(model: RecursiveReasoner) -> None:
    seen = 0
    for puzzle in fresh(model.task, 8):
        with suppress(NoAnswer):
            async for update in fathom.stream(
                model, puzzle, strategy="vote(width=16, stop=never)", budget=Budget(depth=3)
            ):
                if update.answer:
                    seen += 1
                    assert keeps_the_rules(update.answer, puzzle)
        if seen:
            break
    assert seen


async def test_results_depend_on_seed_and_number_and_not_on_who_else_runs(model: RecursiveReasoner) -> None:
    puzzle, one = await answered(model, strategy="beam(width=8)", seed=5)

    async def outcome(seed: int, groups: Sequence[tuple[int, ...]]) -> dict[int, tuple[object, ...]]:
        meter = Meter()
        session = await session_of(model, puzzle, meter, seed)
        done = await asyncio.gather(*(grow(session, Expansion(ids, units=4), meter) for ids in groups))
        await session.aclose()
        return {t.id: (t.depth, t.text, t.reason, t.value) for group in done for t in group}

    together = await outcome(3, [(0, 1, 2, 3, 4, 5)])
    assert together == await outcome(3, [(5,), (3, 1), (4, 0), (2,)])
    assert together != await outcome(4, [(0, 1, 2, 3, 4, 5)])
    other = await fathom.asolve(model, puzzle, strategy="beam(width=8)", seed=5, budget=Budget(seconds=3600))
    assert (one.answer, one.receipt.spent.depth) == (other.answer, other.receipt.spent.depth)


async def test_going_on_equals_not_stopping_and_forks_go_their_own_ways() -> None:
    model = await open_recursive("queens-8", constraints=False, halting=False)
    (puzzle,) = fresh(model.task)
    meter = Meter()
    session = await session_of(model, puzzle, meter)
    (whole,) = await grow(session, Expansion((7,), units=6), meter)
    await session.aclose()
    session = await session_of(model, puzzle, meter)
    (half,) = await grow(session, Expansion((7,), units=2), meter)
    assert (half.depth, half.reason, half.answer) == (2, "length", None)
    (rest,) = await grow(session, Expansion((7,), half, units=4), meter)
    assert (rest.depth, rest.text, rest.value) == (6, whole.text, whole.value)
    children = await grow(session, Expansion((8, 9, 10), rest, to_step=True, units=40), meter)
    assert {(c.parent, c.depth) for c in children} == {(7, 7)}
    assert len({tuple(session.explorer.path(c.state)[-1].tolist()) for c in children}) == 3
    (concluded,) = [t async for t in session.conclude(children[:1], meter)]
    assert (concluded.answer, concluded.depth, concluded.valid) == (children[0].text, 7, None)
    session.drop([rest, *children])
    await session.aclose()
    assert meter.spent.memory_bytes >= 4 * session.explorer.trajectory_bytes
    assert meter.remaining == {}
    await model.aclose()


async def test_what_is_stopped_comes_back_after_its_step_and_is_concluded() -> None:
    model = await open_recursive("queens-8", constraints=False, halting=False)
    meter = Meter()
    session = await session_of(model, fresh(model.task)[0], meter)
    growing = asyncio.create_task(grow(session, Expansion(tuple(range(6)), units=1000), meter))
    await stepping(meter)
    session.stop((1, 4))
    session.stop()
    cut = await growing
    assert {t.reason for t in cut} == {"cut"}
    assert all(0 < t.depth < 1000 and not t.finished and t.answer is None for t in cut)
    answers = [t.answer async for t in session.conclude(cut, meter)]
    assert all(answer and answer.count("\n") == 7 for answer in answers)
    await session.aclose()
    await model.aclose()


async def test_cancelling_in_the_middle_of_a_step_leaves_nothing_behind() -> None:
    model = await open_recursive("queens-8", halting=False, constraints=False)
    (puzzle,) = fresh(model.task)
    meter = Meter(Budget(memory_bytes="10MB"))
    session = await session_of(model, puzzle, meter)
    free = session.explorer.free
    growing = asyncio.create_task(grow(session, Expansion(tuple(range(40)), units=1000), meter))
    await stepping(meter)
    growing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await growing
    await session.aclose()
    assert session.explorer.free == free
    assert meter.remaining["memory_bytes"] == 10_000_000
    spent = meter.spent.flops
    await asyncio.sleep(0.05)
    assert meter.spent.flops == spent
    assert asyncio.all_tasks() == {asyncio.current_task()}
    run = asyncio.create_task(fathom.asolve(model, puzzle, strategy="vote(width=1000, stop=never)"))
    await asyncio.sleep(0.03)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await model.aclose()


async def test_a_memory_limit_makes_waves_and_is_never_passed(model: RecursiveReasoner) -> None:
    bytes_each = 33_280
    limit = 3 * bytes_each + 100
    budget = Budget(memory_bytes=limit)
    puzzle, waves = await answered(model, strategy="vote(width=10, stop=never)", budget=budget)
    assert waves.receipt.spent.width == 10
    assert waves.receipt.spent.memory_bytes == 3 * bytes_each
    for strategy in ("halving(width=10, units=1)", "beam(width=8)"):
        run = await fathom.prepare_run(model, puzzle, strategy=strategy, budget=budget)
        with suppress(NoAnswer):
            await run.finish()
        assert bytes_each <= run.meter.spent.memory_bytes <= limit
        assert run.meter.remaining["memory_bytes"] == limit
    with pytest.raises(LimitError, match="33280 bytes"):
        await fathom.asolve(model, puzzle, budget=Budget(memory_bytes=bytes_each - 1))


async def test_a_deadline_cuts_short_and_still_gives_an_answer(model: RecursiveReasoner) -> None:
    """However little a slow machine gets done: what is given is right, and with more time there is something."""
    (puzzle,) = fresh(model.task)
    for seconds in (1.0, 4.0, 16.0, 64.0):
        answer, receipt = "", None
        try:
            result = await fathom.asolve(model, puzzle, strategy="vote(width=100000, stop=never)", within=seconds)
            answer, receipt = result.answer, result.receipt
        except NoAnswer as nothing:
            receipt = nothing.receipt
        assert receipt is not None
        assert receipt.stopped is StopReason.DEADLINE
        assert not answer or keeps_the_rules(answer, puzzle)
        if answer and receipt.spent.width > 1:
            break
    else:
        pytest.fail("a minute gave no answer of several trajectories")
    with pytest.raises(LimitError, match="deadline is too short"):
        await fathom.asolve(model, puzzle, within=0.001)


async def test_a_step_that_would_be_late_is_not_begun_but_the_first_one_is() -> None:
    model = await open_recursive("queens-8", constraints=False, halting=False)
    pace = (await model.prepare()).pace
    for _ in range(9):
        pace.saw(1, 60.0)
    result = await fathom.asolve(model, fresh(model.task)[0], strategy="vote(width=1, stop=never)", within=2)
    assert result.receipt.stopped is StopReason.DEADLINE
    assert [t.depth for t in result.trajectories] == [1]
    await model.aclose()


async def test_limits_on_calls_and_depth_are_kept_and_tokens_are_no_concern(model: RecursiveReasoner) -> None:
    _, called = await answered(model, strategy="vote(width=9, stop=never)", budget=Budget(calls=4, tokens=1))
    assert (called.receipt.spent.calls, called.receipt.spent.width, called.receipt.spent.tokens) == (4, 4, 0)
    puzzle, deep = await answered(model, strategy="vote(width=9, at_least=5)", budget=Budget(depth=5))
    assert {t.depth for t in deep.trajectories} == {5}
    with pytest.raises(LimitError, match="depth of 1"):
        await fathom.asolve(model, puzzle, strategy="vote", budget=Budget(depth=0))


async def test_width_is_computed_together(model: RecursiveReasoner) -> None:
    """All that grows makes its steps in one batch: sixteen take as many turns of the worker as the deepest of them."""
    meter = Meter()
    session = await session_of(model, fresh(model.task)[0], meter)
    sizes: list[int] = []
    advance = session.explorer.advance

    def counted(latents: Sequence[object], **options: bool) -> None:
        sizes.append(len(latents))
        advance(latents, **options)  # type: ignore[arg-type]

    session.explorer.advance = counted  # type: ignore[method-assign, assignment]
    groups = [Expansion((n,), units=3, at_least=3) for n in range(16)]
    await asyncio.gather(*(grow(session, one, meter) for one in groups))
    assert sizes == [16, 16, 16]
    await session.aclose()


async def test_the_event_loop_is_never_held_up_by_a_step() -> None:
    """Steps that do not end before the loop has turned twenty times more come to their end."""
    model = await open_recursive("queens-8")
    meter = Meter()
    session = await session_of(model, fresh(model.task)[0], meter)
    advance, turns = session.explorer.advance, 0
    gone_on: list[bool] = []

    def lasting(latents: Sequence[object], **options: bool) -> None:
        advance(latents, **options)  # type: ignore[arg-type]
        enough, patience = turns + 20, time.monotonic() + 60
        while turns < enough and time.monotonic() < patience:
            time.sleep(0.001)
        gone_on.append(turns >= enough)

    session.explorer.advance = lasting  # type: ignore[method-assign, assignment]
    growing = asyncio.create_task(grow(session, Expansion(tuple(range(64)), units=4, at_least=4), meter))
    while not growing.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert gone_on == [True] * 4
    await session.aclose()
    await model.aclose()


async def test_the_judge_value_wants_a_value_head_and_the_default_knows_right_from_wrong() -> None:
    model = await open_recursive("sudoku-6", constraints=False)
    puzzle = "".join(str(digit) for digit in Grid(2, 3).unique(SystemRandom(), 12).clues)
    by_value = await fathom.asolve(model, puzzle, strategy="best-of-n(width=6, judge=value)")
    values = [(t.value, t.answer) for t in by_value.trajectories if t.value is not None]
    assert by_value.receipt.valid is None
    assert len(values) == 6
    assert by_value.answer in {answer for value, answer in values if value == max(values)[0]}
    with pytest.raises(CapabilityError, match="revise"):
        await fathom.asolve(model, puzzle, strategy="refine")
    await model.aclose()


@pytest.mark.parametrize(
    ("name", "puzzle", "message"),
    [
        ("queens-8", "Q.......", "8 rows"),
        ("queens-8", "/".join(["Q......"] * 8), "row 1 .* 7 cells"),
        ("queens-8", "/".join(["x......."] * 8), "holds 'x'"),
        ("queens-8", "/".join(["QQ......", *["........"] * 7]), "share a row"),
        ("queens-8", "solve this please\x00\x1b[31m", "8 rows"),
        ("sudoku-6", "7" + "." * 35, "holds '7'"),
        ("sudoku-6", "." * 81, "6 rows"),
        ("sudoku-6", "11" + "." * 34, "both hold 1"),
        ("coloring-8", "0-1 7-8", "vertex 8"),
        ("coloring-8", "0-1 1–2", "no edge"),
        ("coloring-8", "3-3", "joins a vertex with itself"),
        ("coloring-8", "0-99999999999999999999", "no edge"),
    ],
)
async def test_a_puzzle_that_is_none_is_refused_before_anything_is_spent(name: str, puzzle: str, message: str) -> None:
    model = await open_recursive(name)
    run = await fathom.prepare_run(model, puzzle)
    with pytest.raises(InputError, match=message):
        await run.finish()
    assert run.meter.spent.calls == run.meter.spent.flops == 0
    await model.aclose()


async def test_a_checkpoint_that_does_not_exist_is_broken_or_of_another_task(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel) as unknown:
        await open_model("recursive:queens-9")
    assert all(name in str(unknown.value) for name in shipped())
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(shipped()["queens-8"].read_bytes()[:5000])
    with pytest.raises(ModelFileError, match="damaged"):
        await open_model(f"recursive:{broken}")
    model = await open_recursive("queens-8")
    trained = model.checkpoint
    for task, message in (("towers-of-hanoi", "not known here"), ("sudoku-6", "another version")):
        foreign = tmp_path / f"{task}.safetensors"
        save_checkpoint(Checkpoint(task, trained.model, trained.training, 1), foreign)
        with pytest.raises(ModelFileError, match=message):
            await open_model(f"recursive:{foreign}")
    copied = tmp_path / "mine.safetensors"
    copied.write_bytes(shipped()["queens-8"].read_bytes())
    mine = await open_model(f"recursive:{copied}")
    assert isinstance(mine, RecursiveReasoner)
    _, result = await answered(mine)
    assert result.receipt.valid
    await mine.aclose()
    await model.aclose()


async def sixteen(uri: str, puzzle: str) -> tuple[RecursiveReasoner, set[tuple[str, tuple[float, ...]]]]:
    """What is different among sixteen trajectories of four steps, their boards and the values of their steps; the model
    is closed."""
    model = await open_model(uri)
    assert isinstance(model, RecursiveReasoner)
    meter = Meter()
    session = await session_of(model, puzzle, meter)
    grown = await grow(session, Expansion(tuple(range(16)), units=4, at_least=4), meter)
    await session.aclose()
    await model.aclose()
    return model, {(trajectory.text, tuple(trajectory.state.values)) for trajectory in grown}


async def test_with_noise_a_deterministic_model_has_different_trajectories_and_another_name() -> None:
    (puzzle,) = fresh(open_task("queens-8"))
    still, alike = await sixteen("recursive:queens-8-trm(constraints=false)", puzzle)
    zero, also_alike = await sixteen("recursive:queens-8-trm(constraints=false, noise=0)", puzzle)
    moved, apart = await sixteen("recursive:queens-8-trm(constraints=false, noise=0.6)", puzzle)
    again, _ = await sixteen("recursive:queens-8-trm(noise=0.60, constraints=false)", puzzle)
    assert alike == also_alike
    assert (len(alike), len(apart)) == (1, 16)
    assert again.name == moved.name == "recursive:queens-8-trm(noise=0.6, constraints=false)"
    data = load_dataset("recursive:queens-8", questions=1)
    terms = [terms_of(model, model.name, data, 0) for model in (still, zero, moved)]
    assert len({term.model for term in terms}) == 3
    assert len({term.model_hash for term in terms}) == 1


async def test_a_noisy_model_solves_puzzles() -> None:
    model = await open_recursive("queens-8-trm", noise=0.6)
    solved = 0
    for puzzle in fresh(model.task, 12):
        with suppress(NoAnswer):
            result = await fathom.asolve(model, puzzle, strategy="vote(width=24)", budget=Budget(depth=24))
            assert keeps_the_rules(result.answer, puzzle)
            assert result.receipt.model == "recursive:queens-8-trm(noise=0.6)"
            if (solved := solved + 1) == 4:
                break
    assert solved == 4
    await model.aclose()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("recursive:queens-8(noise=0.6)", "a prior of its own"),
        ("recursive:queens-8-trm(noise=-1)", "standard deviation"),
        ("recursive:queens-8-trm(noise=nan)", "standard deviation"),
        ("recursive:queens-8-trm(noise=loud)", "noise.*loud"),
        ("recursive:queens-8-trm(noise=true)", "noise.*True"),
    ],
)
async def test_noise_that_makes_no_sense_is_refused(uri: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        await open_model(uri)


@pytest.mark.parametrize(("divided", "rows"), [("\n", 8), ("/", 8), ("", 1)])
async def test_the_board_is_written_as_the_puzzle_was(model: RecursiveReasoner, divided: str, rows: int) -> None:
    for drawn in fresh(model.task, 12):
        puzzle = drawn.replace("\n", divided)
        with suppress(NoAnswer):
            answer = (await fathom.asolve(model, puzzle)).answer
            break
    assert len(answer.split(divided) if divided else [answer]) == rows
    assert len(answer) == len(puzzle)
    assert all(a == p for a, p in zip(answer, puzzle, strict=True) if p == "Q")


def test_solve_works_without_an_event_loop_and_twice(model: RecursiveReasoner) -> None:
    solved = 0
    for puzzle in fresh(model.task, 12):
        with suppress(NoAnswer):
            assert keeps_the_rules(fathom.solve(model, puzzle).answer, puzzle)
            if (solved := solved + 1) == 2:
                break
    assert solved == 2
