"""When best-of-n asks its judge: verifiers as candidates come, graders once two differ, comparers once all are in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import ClassVar

import pytest

import fathom
from fathom.judges.base import Candidate, Timing, Verdict
from fathom.language.model import LanguageModel
from fathom.search import BestOfN

Make = Callable[..., LanguageModel]


class Grader:
    """Grades by the number that the answer is, and keeps the batches that it was asked for."""

    name: ClassVar[str] = "grader"
    timing: Timing = Timing.DIFFERING

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
        self.batches.append([str(candidate.answer) for candidate in candidates])
        return [Verdict(int(candidate.answer or 0) / 10) for candidate in candidates]

    @property
    def asked(self) -> list[str]:
        return [answer for batch in self.batches for answer in batch]


class Comparer(Grader):
    timing = Timing.TOGETHER


@pytest.mark.parametrize("kind", [Grader, Comparer])
@pytest.mark.parametrize("weighted", [True, False])
async def test_identical_candidates_ask_no_judge_that_only_grades(
    scripted: Make, kind: type[Grader], weighted: bool
) -> None:
    judge = kind()
    result = await fathom.asolve(scripted({"7": 1}), "?", strategy=BestOfN(width=9, judge=judge, weighted=weighted))
    assert judge.batches == []
    assert result.answer == "7"
    (candidate,) = result.receipt.candidates
    assert (candidate.votes, candidate.score) == (9, None)
    assert result.confidence == pytest.approx(10 / 11)
    assert any("not asked" in note for note in result.receipt.notes)


async def test_a_grader_grades_all_once_two_differ(scripted: Make) -> None:
    judge = Grader()
    result = await fathom.asolve(scripted({"7": 3, "2": 1, "5": 1}), "?", strategy=BestOfN(width=24, judge=judge))
    assert result.answer == max(judge.asked)
    votes = {candidate.answer: (candidate.votes, candidate.score) for candidate in result.receipt.candidates}
    assert sum(count for count, _ in votes.values()) == 24
    assert all(score == pytest.approx(int(answer) / 10) for answer, (_, score) in votes.items())


async def test_a_comparer_is_asked_once_for_all_together(scripted: Make) -> None:
    judge = Comparer()
    model = scripted({"7": 3, "2": 1, "5": 1}, room=3)
    result = await fathom.asolve(model, "?", strategy=BestOfN(width=12, judge=judge))
    (batch,) = judge.batches
    assert len(batch) == 12
    assert result.answer == max(batch)


async def test_a_comparer_compares_what_there_is_when_a_limit_ends_the_growing(scripted: Make) -> None:
    judge = Comparer()
    model = scripted({"7": 1, "2": 1}, room=2)
    result = await fathom.asolve(
        model, "?", strategy=BestOfN(width=50, judge=judge, depth=30), budget=fathom.Budget(tokens=400)
    )
    (batch,) = judge.batches
    assert 2 <= len(batch) < 50
    assert result.answer == max(batch)
    assert sum(candidate.votes for candidate in result.receipt.candidates) == len(batch)


class SlowVerifier(Grader):
    """Accepts one answer, after a while."""

    timing = Timing.EACH

    def __init__(self, right: str) -> None:
        super().__init__()
        self.right = right

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
        await super().judge(problem, candidates)
        await asyncio.sleep(0.02)
        return [Verdict.of(candidate.answer == self.right) for candidate in candidates]


@pytest.mark.parametrize(("wave", "beside"), [(1, 0), (3, 2)])
async def test_in_waves_nothing_is_begun_while_a_verifier_may_still_accept(
    scripted: Make, fresh: int, wave: int, beside: int
) -> None:
    judge = SlowVerifier("2")
    strategy = BestOfN(width=60, judge=judge, wave=wave)
    result = await fathom.asolve(scripted({"7": 4, "2": 1}, room=16), "?", strategy=strategy, seed=fresh)
    receipt = result.receipt
    assert (result.answer, receipt.stopped) == ("2", "verified")
    heard = sum(candidate.votes for candidate in receipt.candidates)
    assert heard <= receipt.spent.width <= heard + beside
    assert receipt.spent.width < 60


async def test_in_waves_of_one_the_likeliest_attempt_is_alone_where_it_is_right(scripted: Make) -> None:
    judge = SlowVerifier("7")
    strategy = BestOfN(width=9, judge=judge, wave=1, greedy=True)
    result = await fathom.asolve(scripted({"7": 1}), "?", strategy=strategy)
    assert (judge.asked, result.receipt.spent.width, result.receipt.stopped) == (["7"], 1, "verified")


async def test_a_comparer_waits_for_all_waves(scripted: Make) -> None:
    judge = Comparer()
    strategy = BestOfN(width=10, judge=judge, wave=2)
    await fathom.asolve(scripted({"7": 1, "2": 1}, room=16), "?", strategy=strategy)
    assert [len(batch) for batch in judge.batches] == [10]


def test_a_wave_of_none_is_refused() -> None:
    with pytest.raises(fathom.UsageError, match=r"best-of-n\(wave=…\) must be at least 1"):
        fathom.solve("embedded", "?", strategy="best-of-n(wave=0)")
