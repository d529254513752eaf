"""auto: easy questions end early, hard ones go on, limits hold, and it can be saved, resumed and repeated."""

from __future__ import annotations

import asyncio
import pickle
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

import pytest
import virtual_time
from hypothesis import given, settings
from hypothesis import strategies as st

import fathom
from fathom import Budget, StopReason, Trajectory
from fathom.costs import Costs
from fathom.errors import SpecError, UsageError
from fathom.judges.base import Candidate as Judged
from fathom.judges.base import EachVerifier, Verdict
from fathom.language.engines.scripted import Latency, ScriptedEngine, answers
from fathom.language.model import LanguageModel
from fathom.planning.auto import Auto, AutoSearch
from fathom.planning.cost import CostModel
from fathom.planning.outlook import Outlook
from fathom.planning.plan import Candidate
from fathom.planning.prior import prior
from fathom.search.base import Action, Conclude, Drop, Grow, Judge, Terms

Make = Callable[..., LanguageModel]
EASY = {"42": 1.0}
HARD = {str(n): 1.0 for n in range(12)}


class Accepts(EachVerifier):
    """Knows the right answer."""

    name: ClassVar[str] = "accepts"

    def __init__(self, right: str) -> None:
        self.right = right

    async def verdict(self, problem: str, candidate: Judged) -> Verdict:
        return Verdict.of(candidate.answer == self.right)


def play(core: AutoSearch, answer: Callable[[int], str], room: int = 8, events: int = 10**6) -> list[Action]:
    """Tell the core what it asks for, in order, one thing at a time, up to so many events."""
    asked: list[Action] = []
    out: list[int] = []
    for _ in range(events):
        if core.stopped is not None:
            break
        for action in core.ask(room - len(out)):
            asked.append(action)
            assert not isinstance(action, Conclude | Judge | Drop)
            out += action.ids
        if not out:
            break
        id = out.pop(0)
        core.tell_spending({}, 0.1 * id)
        said = answer(id)
        core.tell(Trajectory(id, depth=5, text=said, answer=said, key=said, finished=True, reason="stop"))
    return asked


async def test_easy_questions_end_early_and_hard_ones_go_on(scripted: Make) -> None:
    easy = [await fathom.asolve(scripted(EASY), "?", seed=seed) for seed in range(6)]
    hard = [await fathom.asolve(scripted(HARD), "?", seed=100 * seed) for seed in range(6)]
    assert all(result.receipt.stopped is StopReason.DECIDED for result in easy)
    assert max(result.receipt.spent.width for result in easy) <= 4
    assert sum(result.receipt.spent.width for result in hard) >= 2 * sum(r.receipt.spent.width for r in easy)
    assert all(result.answer == "42" for result in easy)


async def test_the_receipt_says_what_was_run(scripted: Make) -> None:
    result = await fathom.asolve(scripted(EASY), "?", budget=Budget(width=5))
    assert result.receipt.strategy == "auto: vote(width=5)"
    bare = await fathom.asolve(scripted(EASY), "?", budget=Budget(depth=0, width=1))
    assert bare.receipt.strategy == "auto: direct(depth=0)"
    assert "sample" not in bare.receipt.spent.tokens_by_role


@pytest.mark.parametrize(
    "budget",
    [
        Budget(tokens=40),
        Budget(tokens=250),
        Budget(tokens=900),
        Budget(calls=3),
        Budget(width=2),
        Budget(depth=10, width=6),
        Budget(memory_bytes=200_000),
    ],
    ids=str,
)
async def test_limits_hold_and_there_is_an_answer(scripted: Make, budget: Budget) -> None:
    result = await fathom.asolve(scripted(HARD), "?", budget=budget)
    spent, limits = result.receipt.spent, budget.limits()
    assert result.answer
    for name in ("tokens", "calls", "width", "depth", "memory_bytes"):
        assert getattr(spent, name) <= limits.get(name, float("inf"))


async def test_a_deadline_is_kept_and_there_is_an_answer(scripted: Make) -> None:
    """By a model that would take minutes for a single line of thought."""
    model = scripted(answers(HARD, steps=60), latency=Latency(0.0, 0.5))
    began = time.monotonic()
    result = await fathom.asolve(model, "?", budget=Budget(seconds=4))
    assert result.answer
    assert time.monotonic() - began < 120


async def test_tokens_alone_buy_samples_that_come_to_their_end(scripted: Make) -> None:
    result = await fathom.asolve(scripted(HARD), "?", budget=Budget(tokens=500))
    assert result.receipt.spent.width >= 4
    assert all(t.finished for t in result.trajectories), "none was given so little that it had to be cut"


async def test_a_verifier_is_asked_until_it_accepts(scripted: Make) -> None:
    right = str(random.SystemRandom().randrange(1000, 10**6))
    model = scripted({right: 1, "7": 5})
    result = await fathom.asolve(model, "?", verify=Accepts(right), budget=Budget(width=200))
    assert (result.answer, result.receipt.stopped) == (right, StopReason.VERIFIED)
    assert result.receipt.strategy.startswith("auto(judge=") or "best-of-n" in result.receipt.strategy
    assert result.receipt.spent.width < 200


@pytest.mark.parametrize("budget", [Budget(), Budget(tokens=10_000)], ids=["no limit", "tokens"])
async def test_without_a_deadline_a_verifier_sees_the_first_attempt_before_others_begin(
    scripted: Make, budget: Budget
) -> None:
    result = await fathom.asolve(scripted(EASY), "?", verify=Accepts("42"), budget=budget)
    assert (result.receipt.spent.width, result.receipt.stopped) == (1, StopReason.VERIFIED)


def test_as_many_more_attempts_run_at_a_time_as_have_failed() -> None:
    """One, two, four, eight, and the last: five times as long as one, where one after the other takes sixteen times."""
    length = 20
    say = lambda prompt, rng: "so " * (length - 1) + f"\\boxed{{{rng.randrange(9)}}}."  # noqa: E731

    async def run() -> tuple[int, float]:
        model = LanguageModel(ScriptedEngine(say, latency=Latency(token=1.0), room=16))
        clock = asyncio.get_running_loop().time
        began = clock()
        result = await fathom.asolve(model, "?", strategy=Auto(judge=Accepts("never"), worth=0.0))
        return result.receipt.spent.width, clock() - began

    width, seconds = virtual_time.run(run())
    assert width == 16
    assert seconds == pytest.approx(5 * length, rel=0.2)


async def test_a_question_that_no_attempt_gets_right_is_given_up(scripted: Make) -> None:
    result = await fathom.asolve(scripted(EASY), "?", verify=Accepts("never"), budget=Budget(width=200))
    assert result.receipt.spent.width < 200
    assert result.receipt.valid is False


@pytest.mark.parametrize("budget", [Budget(seconds=600), Budget(tokens=10**6), Budget(calls=10**4)], ids=str)
async def test_a_verifier_and_a_limit_leave_room_for_more_attempts(scripted: Make, budget: Budget) -> None:
    limited = await fathom.asolve(scripted(HARD), "?", verify=Accepts("never"), budget=budget)
    assert 16 < limited.receipt.spent.width <= 128
    free = await fathom.asolve(scripted(HARD), "?", verify=Accepts("never"))
    assert free.receipt.spent.width <= 16


async def test_free_text_is_written_once(scripted: Make) -> None:
    result = await fathom.asolve(scripted(lambda prompt, rng: f"a poem {rng.random()}", form="text"), "Write.")
    assert result.receipt.spent.width == 1
    assert result.receipt.strategy == "auto: direct"


async def test_in_a_pipeline_its_answers_are_handed_on(scripted: Make) -> None:
    result = await fathom.asolve(scripted(EASY), "?", strategy="auto | refine(rounds=1)")
    assert result.answer == "42"
    assert result.receipt.strategy.endswith("vote(width=16) | refine(rounds=1)")


async def test_lost_samples_cost_only_themselves(scripted: Make) -> None:
    from fathom.errors import UpstreamError

    model = scripted(EASY, fail=lambda seed: UpstreamError("gone") if seed % 3 == 0 else None)
    result = await fathom.asolve(model, "?", seed=1)
    assert result.answer == "42"
    assert any("gone" in note for note in result.receipt.notes)


async def test_the_same_seed_gives_the_same_run(scripted: Make) -> None:
    seed = random.SystemRandom().randrange(10**6)
    for budget in (None, Budget(tokens=600), Budget(width=7)):
        first, second = [await fathom.asolve(scripted(HARD), "?", seed=seed, budget=budget) for _ in range(2)]
        assert first.receipt.candidates == second.receipt.candidates
        assert first.receipt.spent.tokens == second.receipt.spent.tokens
        assert first.receipt.strategy == second.receipt.strategy


@given(st.integers(0, 10**6), st.integers(0, 12), st.sampled_from([None, 3, 9]))
@settings(max_examples=40)
def test_saved_in_the_middle_and_resumed_it_gives_the_same_end(seed: int, after: int, width: int | None) -> None:
    def answer(id: int) -> str:
        return random.Random(seed * 1000 + id).choice("aab")

    whole, half = (Auto(width=width).begin(Terms()) for _ in range(2))
    play(whole, answer, room=1)
    play(half, answer, room=1, events=after)
    resumed = Auto(width=width).begin(Terms())
    resumed.restore(pickle.loads(pickle.dumps(half.state())))
    assert resumed.standing == half.standing
    play(resumed, answer, room=1)
    assert resumed.standing == whole.standing
    assert resumed.trajectories == whole.trajectories
    assert resumed.ran == whole.ran


@given(st.lists(st.sampled_from("abcd"), min_size=16, max_size=16))
@settings(max_examples=60)
def test_it_never_starts_more_than_it_may_and_answers_as_its_votes_say(answers: list[str]) -> None:
    core = Auto().begin(Terms(width=9))
    asked = play(core, lambda id: answers[id])
    started = [id for action in asked if isinstance(action, Grow) for id in action.ids]
    assert len(started) <= 9
    assert started == list(range(len(started)))
    counts = Counter(answers[id] for id in core.trajectories)
    assert counts[str(core.standing.answer)] == max(counts.values())


def timed(seconds: float, width: int = 16, wide: float = 0.4) -> AutoSearch:
    """A search on a model whose speed is known, under a deadline."""
    costs = Costs("m", unit_seconds={1: 0.1, 16: wide}, depth=10.0, room=16)
    core = Auto(width=width).begin(Terms())
    core.brief(Outlook({0: Candidate(CostModel(costs), prior(costs))}, {"seconds": seconds}))
    return core


def started(actions: Sequence[Action]) -> int:
    return sum(len(action.ids) for action in actions if isinstance(action, Grow))


def test_it_plans_again_from_the_time_that_was_really_taken() -> None:
    """Samples that take three times as long as foreseen leave time for fewer of them."""
    widths = []
    for slowness in (1.0, 3.0):
        core = timed(8.0)
        first = started(core.ask(16))
        assert first > 1
        for id in range(first):
            core.tell_spending({"seconds": 8.0 - 1.5 * slowness}, 1.5 * slowness)
            core.tell(Trajectory(id, depth=10, text="x", answer=str(id), key=str(id), finished=True, reason="stop"))
        core.ask(16)
        samples = core.now.samples
        assert samples is not None
        widths.append(samples.width)
    assert widths[1] < widths[0]


def test_little_time_starts_all_that_fits_at_once_and_much_time_waits_for_agreement() -> None:
    hurried, patient = timed(2.6, wide=0.12), timed(500.0, wide=0.12)
    assert started(hurried.ask(16)) > started(patient.ask(16))


def test_a_wind_down_before_anything_was_begun_is_survived() -> None:
    core = Auto().begin(Terms())
    core.wind_down()
    assert core.ask(4) == ()
    assert core.standing.answer is None


async def test_what_it_learned_makes_it_no_stranger_to_the_next_run(scripted: Make) -> None:
    from fathom.planning.learned import learned

    model = scripted(EASY, latency=Latency(0.0, 0.001))
    object.__setattr__(model.engine, "_traits", replace(model.engine.traits, version="9"))
    await model.prepare()
    await fathom.asolve(model, "?")
    known = learned("scripted", "9")
    assert known.runs == 1
    assert known.lengths["short"].units > 10
    assert known.drag > 0


@pytest.mark.parametrize("spec", ["auto(worth=2)", "auto(worth=-1)", "auto(width=0)", "auto(profile=nowhere.json)"])
async def test_options_that_make_no_sense_are_refused(scripted: Make, spec: str) -> None:
    with pytest.raises(UsageError):
        await fathom.asolve(scripted(EASY), "?", strategy=spec)
    with pytest.raises(SpecError, match="worth"):
        Auto(worth=1.5)
