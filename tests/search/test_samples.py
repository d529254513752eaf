"""direct, vote and best-of-n: what they start, when they stop, and whom they believe."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fathom
from fathom import StopReason, Trajectory
from fathom.errors import SpecError
from fathom.judges.base import Candidate, Verdict
from fathom.language.engines.base import Prompt
from fathom.language.model import LanguageModel
from fathom.search import BestOfN, Vote
from fathom.search.base import Conclude, Grow, Terms

Make = Callable[..., LanguageModel]


class Table:
    """A judge that looks answers up, and counts what it was asked."""

    name: ClassVar[str] = "table"

    def __init__(self, verdicts: dict[str, Verdict]) -> None:
        self.verdicts = verdicts
        self.asked: list[str] = []

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
        self.asked += [candidate.answer or "" for candidate in candidates]
        return [self.verdicts[candidate.answer or ""] for candidate in candidates]


def finished(id: int, answer: str | None) -> Trajectory:
    return Trajectory(id, depth=3, text=f"so {answer}", answer=answer, key=answer or "", finished=True, reason="stop")


def run_votes(said: Vote, answers: list[str]) -> tuple[int, str | None]:
    """How many samples the core takes when they come one by one, and its answer."""
    core = said.begin(Terms())
    taken = 0
    while core.stopped is None and (actions := core.ask(1)):
        (grow,) = actions
        assert isinstance(grow, Grow)
        core.tell(finished(grow.ids[0], answers[taken]))
        taken += 1
    return taken, core.standing.answer


@given(st.lists(st.sampled_from("abc"), min_size=12, max_size=12))
def test_stopping_once_it_is_certain_never_changes_the_outcome(answers: list[str]) -> None:
    taken, answer = run_votes(Vote(width=12, stop="certain"), answers)
    everything, full = run_votes(Vote(width=12, stop="never"), answers)
    assert everything == 12
    assert taken <= 12
    assert answer == full


def test_agreement_stops_the_vote_early_and_disagreement_does_not() -> None:
    assert run_votes(Vote(width=16), ["x"] * 16)[0] < 8
    assert run_votes(Vote(width=16), ["x", "y"] * 8)[0] == 16
    surer = run_votes(Vote(width=16, sure=0.999), ["x"] * 16)[0]
    assert surer > run_votes(Vote(width=16, sure=0.9), ["x"] * 16)[0]


def test_early_stopping_is_rarely_wrong_about_what_all_samples_would_say() -> None:
    rng = random.Random(3)
    wrong = saved = 0
    for _ in range(400):
        answers = rng.choices(["a", "b", "c"], [0.6, 0.25, 0.15], k=16)
        taken, answer = run_votes(Vote(width=16), answers)
        wrong += answer != run_votes(Vote(width=16, stop="never"), answers)[1]
        saved += 16 - taken
    assert wrong <= 0.08 * 400
    assert saved > 0.15 * 400 * 16


@pytest.mark.parametrize(
    "spec", ["vote(sure=0.2)", "vote(sure=nan)", "vote(wave=0)", "vote(stop=often)", "vote(width=0)"]
)
async def test_options_that_make_no_sense_are_refused(scripted: Make, spec: str) -> None:
    with pytest.raises(fathom.UsageError):
        await fathom.asolve(scripted({"1": 1}), "?", strategy=spec)


async def test_a_tie_is_reported_and_the_earlier_one_wins() -> None:
    core = Vote(width=4, stop="never").begin(Terms())
    core.ask(4)
    for id, answer in enumerate(["b", "a", "a", "b"]):
        core.tell(finished(id, answer))
    assert core.standing.answer == "b"
    assert any("tie" in note for note in core.standing.notes)


@pytest.mark.parametrize("said", [Vote(width=5, greedy=True), BestOfN(width=5, greedy=True)])
def test_the_likeliest_line_of_thought_may_come_first(said: Vote | BestOfN) -> None:
    first, others = said.begin(Terms()).ask(10)
    assert (first, others) == (Grow((0,), greedy=True), Grow((1, 2, 3, 4)))


def test_the_likeliest_line_of_thought_wins_ties() -> None:
    search = Vote(width=5, greedy=True).begin(Terms())
    search.ask(10)
    for id, answer in ((3, "a"), (1, "a"), (0, "b"), (2, "b"), (4, None)):
        search.tell(finished(id, answer))
    assert search.standing.answer == "b"


def test_a_trajectory_without_an_answer_is_concluded_once_and_then_blank() -> None:
    core = Vote(width=2, stop="never").begin(Terms())
    core.ask(2)
    core.tell(finished(0, "5"))
    core.tell(finished(1, None))
    assert core.ask(0) == [Conclude((1,))]
    core.tell(finished(1, None))
    assert core.ask(4) == []
    assert core.standing.answer == "5"
    assert core.standing.confidence == pytest.approx(2 / 4)


async def test_direct_is_one_greedy_trajectory(scripted: Make) -> None:
    result = await fathom.asolve(scripted({"1": 1, "2": 1}), "?", strategy="direct")
    again = await fathom.asolve(scripted({"1": 1, "2": 1}), "?", strategy="direct", seed=99)
    assert result.receipt.spent.width == 1
    assert result.text == again.text


async def test_depth_zero_answers_at_once(scripted: Make) -> None:
    result = await fathom.asolve(scripted({"12": 1}), "?", strategy="vote(width=4, depth=0)")
    assert result.answer == "12"
    assert "sample" not in result.receipt.spent.tokens_by_role


async def test_extended_depth_makes_the_model_go_on(scripted: Make) -> None:
    brief = await fathom.asolve(scripted({"1": 1}), "?", strategy="direct")
    longer = await fathom.asolve(scripted({"1": 1}), "?", strategy="direct(at_least=60)")
    assert brief.receipt.spent.depth < 60 <= longer.receipt.spent.depth
    assert "Wait" in longer.text
    assert longer.answer == "1"


async def test_a_verifier_decides_and_ends_the_search(scripted: Make, fresh: int) -> None:
    right = str(fresh)
    judge = Table({"1": Verdict.of(False), right: Verdict.of(True)})
    model = scripted({"1": 5, right: 1}, room=1)
    result = await fathom.asolve(model, "?", strategy=BestOfN(width=200, judge=judge))
    assert result.answer == right
    assert result.receipt.stopped is StopReason.VERIFIED
    assert result.receipt.valid is True
    assert result.confidence == 1.0
    assert judge.asked.count(right) == 1


async def test_the_best_scored_wins_and_weighted_sums_do(scripted: Make) -> None:
    def script(prompt: Prompt, rng: random.Random) -> str:
        return f"\\boxed{{{rng.choice(['1', '2', '2', '2'])}}}"

    judge = Table({"1": Verdict(0.9), "2": Verdict(0.5)})
    best = await fathom.asolve(scripted(script), "?", strategy=BestOfN(width=16, judge=judge))
    weighted = await fathom.asolve(scripted(script), "?", strategy=BestOfN(width=16, judge=judge, weighted=True))
    assert (best.answer, weighted.answer) == ("1", "2")


async def test_identical_candidates_are_judged_once(scripted: Make) -> None:
    judge = Table({"3": Verdict(0.4)})
    await fathom.asolve(scripted(lambda prompt, rng: "\\boxed{3}"), "?", strategy=BestOfN(width=9, judge=judge))
    assert judge.asked == ["3"]


async def test_a_judge_that_fails_costs_its_verdict_and_is_noted(scripted: Make) -> None:
    judge = Table({})
    result = await fathom.asolve(scripted({"3": 1}), "?", strategy=BestOfN(width=2, judge=judge))
    assert result.answer == "3"
    assert any("KeyError" in note for note in result.receipt.notes)


async def test_a_verifier_given_apart_goes_into_the_strategy_or_is_refused(scripted: Make) -> None:
    judge = Table({"3": Verdict.of(True)})
    result = await fathom.asolve(scripted({"3": 1}), "?", verify=judge)
    assert result.receipt.valid is True
    with pytest.raises(SpecError, match="best-of-n"):
        await fathom.asolve(scripted({"3": 1}), "?", strategy="vote", verify=judge)
