"""What holds for every search that builds on answers: resumed it ends the same, cancelled it leaves nothing behind."""

from __future__ import annotations

import asyncio
import pickle
import random
from collections.abc import Callable

import pytest
from exact_time import exactly_timed
from hypothesis import given, settings
from hypothesis import strategies as st
from rehearsal import Scores, said

import fathom
from fathom import Budget, Problem, Run, Trajectory
from fathom.api import strategy_of
from fathom.errors import EngineError, SpecError, UpstreamError
from fathom.language.engines.scripted import Latency
from fathom.language.model import LanguageModel
from fathom.search import BestOfN, Fuse, Halving, Mcts, Refine, Strategy, Vote
from fathom.search.base import Conclude, Grow, Judge, Search, Terms

Make = Callable[..., LanguageModel]

SPECS = [
    "first(width=5, of=2)",
    "halving(width=5, units=4)",
    "refine(width=2, rounds=3)",
    "fuse(width=4, rounds=2)",
    "mcts(width=9)",
    "vote(width=4) | refine | mcts(width=5)",
]
JUDGE = Scores({"a": 0.2, "b": 0.7, "c": 0.5, "": 0.4})
STRATEGIES: list[Strategy] = [
    Halving(width=5, units=4, judge=JUDGE),
    Refine(width=2, rounds=3, judge=JUDGE),
    Fuse(width=4, rounds=2),
    Mcts(width=20, judge=JUDGE),
    Vote(width=3, stop="never") | BestOfN(width=2, judge=JUDGE) | Fuse(width=3, rounds=1) | Mcts(width=4, judge=JUDGE),
]


def advance(core: Search, rounds: int, answers: list[str]) -> Search:
    """Answer all that the core asks for, so many times over."""
    while core.stopped is None and rounds > 0 and (actions := core.ask(3)):
        rounds -= 1
        for action in actions:
            for id in action.ids:
                before = core.trajectories.get(id, Trajectory(id))
                answer = answers[(id + before.depth) % len(answers)]
                match action:
                    case Grow(units=units) if units is not None and (before.depth or id % 3):
                        core.tell(said(id, None, before.depth + units, finished=False))
                    case Grow():
                        core.tell(said(id, answer, before.depth + 1))
                    case Conclude():
                        core.tell(said(id, answer, before.depth, finished=False))
                    case Judge():
                        core.tell_verdict(id, JUDGE.verdict(before.answer))
    return core


class Comparing(Scores):
    timing = "together"


@pytest.mark.parametrize("name", ["halving", "refine", "mcts", "beam", "dvts", "rebase", "particles"])
def test_a_judge_that_compares_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match="compares"):
        strategy_of(name, verify=Comparing({}))


@settings(max_examples=30)
@given(
    st.sampled_from(STRATEGIES), st.integers(0, 25), st.integers(0, 99), st.lists(st.sampled_from("abc"), min_size=9)
)
def test_saved_in_the_middle_and_resumed_it_ends_the_same(
    strategy: Strategy, after: int, seed: int, answers: list[str]
) -> None:
    core = advance(strategy.begin(Terms(seed=seed)), after, answers)
    resumed = strategy.begin(Terms(seed=seed))
    resumed.restore(pickle.loads(pickle.dumps(core.state())))
    whole, resumed = advance(core, 1000, answers), advance(resumed, 1000, answers)
    assert resumed.trajectories == whole.trajectories
    assert (resumed.standing, resumed.stopped) == (whole.standing, whole.stopped)
    assert whole.standing.answer is not None


@pytest.mark.parametrize("spec", SPECS)
@exactly_timed
async def test_cancelled_anywhere_it_leaves_nothing_behind(scripted: Make, spec: str) -> None:
    for seconds in (0.0, 0.02, random.uniform(0.03, 0.4)):
        model = scripted({"1": 1, "2": 1}, latency=Latency(token=0.002), room=3)
        run = Run(model, Problem.of("?"), strategy_of(spec), Budget())
        task = asyncio.create_task(run.finish())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait([task])
        assert model.engine.running == 0  # type: ignore[attr-defined]
        assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("limit", [30, 111, 260])
async def test_tokens_are_never_exceeded_and_still_end_in_an_answer(scripted: Make, spec: str, limit: int) -> None:
    model = scripted({"1": 1, "2": 1, "3": 1}, room=4)
    result = await fathom.asolve(model, "?", strategy=spec, budget=Budget(tokens=limit))
    assert result.receipt.spent.tokens <= limit
    assert result.answer in ("1", "2", "3")


@pytest.mark.parametrize("spec", SPECS)
async def test_lost_samples_cost_only_themselves(scripted: Make, spec: str, fresh: int) -> None:
    def fail(seed: int) -> EngineError | None:
        return UpstreamError("boom", status=500) if seed % 3 == 1 else None

    result = await fathom.asolve(scripted({str(fresh): 1}, fail=fail, room=4), "?", strategy=spec)
    assert result.answer == str(fresh)


@pytest.mark.parametrize("spec", SPECS)
async def test_when_all_are_lost_it_says_why_and_ends(scripted: Make, spec: str) -> None:
    model = scripted({"1": 1}, fail=lambda seed: UpstreamError("on holiday", status=503), room=4)
    async with asyncio.timeout(120):
        with pytest.raises(UpstreamError, match="on holiday"):
            await fathom.asolve(model, "?", strategy=spec)


@pytest.mark.parametrize("spec", SPECS)
async def test_the_same_seed_gives_the_same_run(scripted: Make, spec: str) -> None:
    def outcome(result: fathom.Result) -> object:
        return sorted((t.id, t.text) for t in result.trajectories), result.answer

    script = {str(i): 1.0 for i in range(40)}
    first, again = [
        outcome(await fathom.asolve(scripted(script, room=1), "?", strategy=spec, seed=5)) for _ in range(2)
    ]
    assert first == again
