"""The worse half goes at every rung; every rung costs the same."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from exact_time import exactly_timed
from hypothesis import given
from hypothesis import strategies as st
from rehearsal import Scores, play, said

import fathom
from fathom import Trajectory
from fathom.errors import UsageError
from fathom.language.engines.base import Prompt
from fathom.language.engines.scripted import Latency
from fathom.language.model import LanguageModel
from fathom.search import Halving
from fathom.search.base import Action, Conclude, Drop, Grow, Search, Terms

Make = Callable[..., LanguageModel]


def growing(quality: dict[int, float], ends: dict[int, int] | None = None) -> Callable[[Grow, int, Search], Trajectory]:
    """Lines of thought of fixed quality, which end by themselves at the depth in ``ends``."""

    def write(grow: Grow, id: int, core: Search) -> Trajectory:
        assert grow.units is not None
        before = core.trajectories[id].depth if grow.parent is not None else 0
        depth = min(before + grow.units, (ends or {}).get(id, 10**9))
        if depth < before + grow.units:
            return said(id, str(id), depth, logprob=quality[id])
        return said(id, None, depth, finished=False, logprob=quality[id])

    return write


def concluded(trajectory: Trajectory) -> Trajectory:
    return replace(trajectory, answer=str(trajectory.id), key=str(trajectory.id))


def rungs(asked: list[Action]) -> list[list[Grow]]:
    """What was asked to grow, by the rung that it was for: units double or more from one to the next."""
    grows = [action for action in asked if isinstance(action, Grow)]
    found: dict[int, list[Grow]] = {}
    times: dict[int, int] = {}
    for grow in grows:
        for id in grow.ids:
            times[id] = times.get(id, -1) + 1
            found.setdefault(times[id], []).append(replace(grow, ids=(id,)))
    return [found[rung] for rung in sorted(found)]


@given(st.integers(1, 24), st.integers(1, 9), st.integers(1, 30), st.randoms(use_true_random=False))
def test_every_rung_costs_the_same_and_halves_the_width(width: int, units: int, room: int, rng: random.Random) -> None:
    quality = dict(enumerate(rng.sample([-(rank + 1) / 10 for rank in range(24)], width)))
    core = Halving(width=width, units=units).begin(Terms())
    asked = play(core, growing(quality), room=room, shuffle=rng, conclude=concluded)
    widths = []
    for rung in rungs(asked):
        widths.append(len(rung))
        spent = sum(grow.units or 0 for grow in rung)
        assert width * units - len(rung) < spent <= width * units
    assert widths[0] == width
    assert all(after == max(1, before // 2) for before, after in itertools.pairwise(widths))
    assert widths[-1] == 1
    best = max(quality, key=lambda id: quality[id])
    assert core.standing.answer == str(best)
    dropped = [id for action in asked if isinstance(action, Drop) for id in action.ids]
    assert sorted(dropped) == sorted(set(range(width)) - {best})
    assert [action for action in asked if isinstance(action, Conclude)] == [Conclude((best,))]


@given(st.integers(2, 12), st.randoms(use_true_random=False))
def test_one_that_finished_early_competes_with_its_final_score(width: int, rng: random.Random) -> None:
    quality = dict(enumerate(rng.sample([-(rank + 1) / 10 for rank in range(24)], width)))
    ends = {id: rng.randrange(1, 40) for id in range(width) if rng.random() < 0.6}
    core = Halving(width=width, units=4).begin(Terms())
    play(core, growing(quality, ends), shuffle=rng, conclude=concluded)
    assert core.standing.answer == str(max(quality, key=lambda id: quality[id]))


@given(st.integers(1, 8), st.integers(0, 40), st.randoms(use_true_random=False))
def test_to_end_at_any_time_is_to_conclude_what_is_unfinished(width: int, events: int, rng: random.Random) -> None:
    quality = dict(enumerate(rng.sample([-(rank + 1) / 10 for rank in range(24)], width)))
    core = Halving(width=width, units=2).begin(Terms())
    grown = 0

    def write(grow: Grow, id: int, core: Search) -> Trajectory:
        nonlocal grown
        grown += 1
        return growing(quality)(grow, id, core)

    asked = play(core, write, room=3, shuffle=rng, conclude=concluded, until=lambda core: grown > events)
    for trajectory in core.trajectories.values():
        assert trajectory.answer is not None or trajectory.id in core.dropped
    assert core.standing.answer is not None
    conclusions = [id for action in asked if isinstance(action, Conclude) for id in action.ids]
    assert len(conclusions) == len(set(conclusions))


def test_depth_is_kept() -> None:
    core = Halving(width=4, units=8, depth=20).begin(Terms())
    play(core, growing({id: -1.0 - id for id in range(4)}), conclude=concluded)
    assert max(t.depth for t in core.trajectories.values()) == 20
    assert core.standing.answer == "0"


def test_a_verifier_ends_it_only_on_an_answer_and_a_vote_sums_scores() -> None:
    judge = Scores({"": 1.0, "1": 1.0})
    core = Halving(width=2, units=3, judge=judge).begin(Terms())
    play(core, growing({0: -1.0, 1: -1.0}, {1: 5}), conclude=concluded)
    assert core.standing.answer in ("0", "1")
    voting = Halving(width=3, units=50, judge=Scores({"x": 0.3, "y": 0.5}), final="vote").begin(Terms())
    play(voting, lambda grow, id, core: said(id, "xyx"[id]))
    assert voting.standing.answer == "x"


@exactly_timed
async def test_a_confident_line_of_thought_survives(scripted: Make) -> None:
    def script(prompt: Prompt, rng: random.Random) -> str:
        if prompt.prefix_text.endswith("\\boxed{"):
            return "5}."
        return "and " * (60 - len(prompt.prefix_text.split())) + "\\boxed{5}"

    model = scripted(script, room=4)
    result = await fathom.asolve(model, "?", strategy="halving(width=8, units=6)")
    assert result.answer == "5"
    assert result.receipt.spent.width == 8
    assert model.engine.running == 0
    slow = scripted(script, room=8, latency=Latency(token=0.004))
    result = await fathom.asolve(slow, "?", strategy="halving(width=8, units=6)", within=0.3)
    assert result.answer == "5"
    assert slow.engine.running == 0
    result = await fathom.asolve(model, "?", strategy="halving(width=4, units=6)", budget=fathom.Budget(tokens=150))
    assert result.answer == "5"
    assert result.receipt.spent.tokens <= 150


@pytest.mark.parametrize("spec", ["halving(units=0)", "halving(width=0)", "halving(final=loudest)"])
async def test_what_makes_no_sense_is_refused(scripted: Make, spec: str) -> None:
    with pytest.raises(UsageError):
        await fathom.asolve(scripted({"1": 1}), "?", strategy=spec)
