"""Each new attempt combines a few of the round before; the last round votes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from exact_time import exactly_timed
from hypothesis import given
from hypothesis import strategies as st
from rehearsal import play, said

import fathom
from fathom import StopReason
from fathom.errors import UsageError
from fathom.language.engines.base import Prompt
from fathom.language.engines.scripted import Latency
from fathom.language.model import LanguageModel
from fathom.search import Fuse
from fathom.search.base import Grow, Search, Terms

Make = Callable[..., LanguageModel]


def sources_of(asked: list[object]) -> dict[int, tuple[int, ...]]:
    return {id: action.sources for action in asked if isinstance(action, Grow) for id in action.ids}


@given(st.integers(2, 7), st.integers(1, 5), st.integers(1, 3), st.integers(), st.randoms(use_true_random=False))
def test_each_attempt_sees_k_different_ones_of_the_round_before(
    width: int, k: int, rounds: int, seed: int, rng: random.Random
) -> None:
    def run(shuffle: random.Random) -> dict[int, tuple[int, ...]]:
        core = Fuse(width=width, k=k, rounds=rounds).begin(Terms(seed=seed))
        return sources_of(list(play(core, lambda grow, id, core: said(id, str(id)), shuffle=shuffle)))

    sources = run(rng)
    assert len(sources) == width * (rounds + 1)
    for id, seen in sources.items():
        round_before = range(id // width * width - width, id // width * width)
        assert len(seen) == (min(k, width) if id >= width else 0) == len(set(seen))
        assert all(source in round_before for source in seen)
    assert run(random.Random(1)) == sources  # whatever the order in which they come


@given(st.lists(st.sampled_from("abc"), min_size=9, max_size=9), st.integers(1, 9))
def test_the_last_round_votes_and_what_is_missing_of_it_is_voted_by_the_one_before(
    answers: list[str], over: int
) -> None:
    core = Fuse(width=3, k=2, rounds=2).begin(Terms())

    def write(grow: Grow, id: int, core: Search) -> fathom.Trajectory:
        return said(id, f"{answers[id]}{id}" if id < 3 else answers[id])

    play(core, write, until=lambda core: len(core.trajectories) >= over, room=1)
    there = len(core.trajectories)
    votes: Counter[str] = Counter()
    last, begun = divmod(there - 1, 3)
    for id in range(there):
        name = core.trajectories[id].key
        votes[name] += 1.0 if id // 3 == last else (2 - begun) / 3 if id // 3 == last - 1 else 0.0
    stated = {candidate.answer: candidate.votes for candidate in core.standing.candidates}
    assert stated == pytest.approx({name: count for name, count in votes.items() if count})


def test_where_all_agree_there_is_nothing_to_combine() -> None:
    core = Fuse(width=4).begin(Terms())
    play(core, lambda grow, id, core: said(id, "7"))
    assert core.stopped is StopReason.CONVERGED
    assert len(core.trajectories) == 4


def test_a_limit_on_trajectories_makes_the_population_smaller_never_the_rounds_fewer() -> None:
    core = Fuse(width=8, rounds=2).begin(Terms(width=9))
    sources = sources_of(list(play(core, lambda grow, id, core: said(id, str(id)))))
    assert len(sources) == 9
    assert [bool(sources[id]) for id in range(9)] == [False] * 3 + [True] * 6


async def test_what_the_attempts_have_right_is_combined(scripted: Make, fresh: int) -> None:
    left, right = divmod(fresh, 1000)

    def script(prompt: Prompt, rng: random.Random) -> str:
        shown = prompt.messages[-2].content
        if "<attempt" in shown and f"left {left}" in shown and f"right {right}" in shown:
            return f"\\boxed{{{fresh}}}"
        if "<attempt" in shown and f"\\boxed{{{fresh}}}" in shown:
            return f"\\boxed{{{fresh}}}"
        return rng.choice([f"left {left}", f"right {right}"]) + f" \\boxed{{{rng.randrange(1000)}}}"

    model = scripted(script, room=4)
    result = await fathom.asolve(model, "?", strategy="fuse(width=6, k=4, rounds=3)")
    assert result.answer == str(fresh)
    assert model.engine.running == 0


@exactly_timed
async def test_limits_hold(scripted: Make, slow: Latency) -> None:
    weights = {str(n): 1.0 for n in range(50)}
    result = await fathom.asolve(scripted(weights, latency=slow, room=4), "?", strategy="fuse(rounds=50)", within=0.5)
    assert result.answer
    assert result.receipt.stopped is StopReason.DEADLINE
    model = scripted(weights, room=4)
    result = await fathom.asolve(model, "?", strategy="fuse(rounds=50)", budget=fathom.Budget(tokens=700))
    assert result.receipt.spent.tokens <= 700
    assert model.engine.running == 0


@pytest.mark.parametrize("spec", ["fuse(k=0)", "fuse(rounds=0)", "fuse(width=0)"])
async def test_what_makes_no_sense_is_refused(scripted: Make, spec: str) -> None:
    with pytest.raises(UsageError):
        await fathom.asolve(scripted({"1": 1}), "?", strategy=spec)
