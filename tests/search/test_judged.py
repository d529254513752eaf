"""A judged search whose judge says nothing, or nothing in time, still has its best answer: that of a plain vote."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import ClassVar

import pytest
from exact_time import exactly_timed
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import Scorer, World
from test_every_search import JUDGED

import fathom
from fathom.api import strategy_of
from fathom.judges.base import Candidate, Verdict
from fathom.language.engines.scripted import Latency
from fathom.language.model import LanguageModel
from fathom.search import BestOfN
from fathom.search.base import Action, Judge, Search, Terms

Make = Callable[..., LanguageModel]


class Unheard(World):
    """A world in which steps are judged, and answers get nothing from their judge, or no word at all."""

    verdict: Verdict | None = None

    def play(self, core: Search, action: Action) -> None:
        if not isinstance(action, Judge):
            super().play(core, action)
            return
        for id in action.ids:
            if core.trajectories[id].answer is None:
                core.tell_verdict(id, Verdict(self.score(core.trajectories[id].text)))
            elif self.verdict is not None:
                core.tell_verdict(id, self.verdict)


@pytest.mark.parametrize("verdict", [None, Verdict.failed("out of tokens")], ids=["late", "failed"])
@pytest.mark.parametrize("spec", [*JUDGED, "best-of-n(width=4, weighted=true)", "halving(width=4, final=vote)"])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=10)
def test_answers_without_any_verdict_vote(spec: str, verdict: Verdict | None, seed: int) -> None:
    world = Unheard(lambda text: 0.5, depth=2, seed=seed, letters="ab", odds=(2, 1), shuffle=random.Random(seed))
    world.verdict = verdict
    core = strategy_of(spec).judged_by_default(Scorer()).begin(Terms(seed=seed))
    standing = world.run(core).standing
    votes = Counter(t.answer for t in core.trajectories.values() if t.answer is not None)
    most = max(votes.values())
    assert votes[standing.answer] == most
    assert {c.answer: c.votes for c in standing.candidates} == votes
    assert standing.confidence == pytest.approx((most + 1) / (votes.total() + 2))
    assert standing.best is not None
    assert core.trajectories[standing.best].answer == standing.answer
    assert ("nothing was judged in time, so the answers voted" in standing.notes) == (verdict is None)
    assert ("nothing was judged, so the answers voted" in standing.notes) == (verdict is not None)
    assert any("tie" in note for note in standing.notes) == (list(votes.values()).count(most) > 1)


class Sleeper:
    """A judge that takes longer than anybody waits."""

    name: ClassVar[str] = "sleeper"

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
        await asyncio.sleep(3600)
        raise AssertionError("nobody waits so long")


@exactly_timed
async def test_a_judge_that_does_not_come_to_an_end_costs_its_verdicts_only(scripted: Make, fresh: int) -> None:
    model = scripted({str(fresh): 3, "7": 1}, latency=Latency(first=0.01, token=0.001), room=16)
    result = await fathom.asolve(model, "?", strategy=BestOfN(width=12, judge=Sleeper()), within=0.8)
    votes = {candidate.answer: candidate.votes for candidate in result.receipt.candidates}
    assert sum(votes.values()) == 12
    assert votes[result.answer] == max(votes.values())
    assert result.confidence == pytest.approx((votes[result.answer] + 1) / 14)
    assert any("judged in time" in note for note in result.receipt.notes)
