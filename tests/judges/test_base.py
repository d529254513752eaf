"""The rules that hold for all judges: identical candidates once, and failures cost a verdict and never the run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fathom
from fathom.judges.base import Candidate, EachVerifier, Once, Verdict, Verifier, verdicts_of
from fathom.judges.registry import make_judge
from fathom.language.engines.scripted import ScriptedEngine
from fathom.language.model import LanguageModel
from fathom.search import STRATEGIES, BestOfN


class Length(EachVerifier):
    """Scores by the length of the answer, slowly, and counts what it was asked."""

    name = "length"

    def __init__(self) -> None:
        self.asked: list[Candidate] = []

    async def verdict(self, problem: str, candidate: Candidate) -> Verdict:
        self.asked.append(candidate)
        await asyncio.sleep(0.01)
        if candidate.answer is None:
            raise RuntimeError("nothing to measure")
        return Verdict(1 / (1 + len(candidate.answer)))


class Broken:
    name = "broken"

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
        if problem == "raise":
            raise OSError("no connection")
        return []


@given(st.lists(st.text(max_size=3), max_size=12))
def test_each_distinct_candidate_is_judged_once_and_all_get_their_verdict(answers: list[str]) -> None:
    inner = Length()
    candidates = [Candidate("…", answer) for answer in answers]

    async def run() -> list[list[Verdict]]:
        judge = Once(inner)
        return list(await asyncio.gather(judge.judge("p", candidates), judge.judge("p", candidates[::-1])))

    forth, back = asyncio.run(run())
    assert [verdict.score for verdict in forth] == [1 / (1 + len(answer)) for answer in answers]
    assert back == forth[::-1]
    assert sorted(c.answer or "" for c in inner.asked) == sorted(set(answers))


async def test_another_problem_is_another_question() -> None:
    inner = Length()
    judge = Once(inner)
    for problem in ("p", "q", "p"):
        await judge.judge(problem, [Candidate("…", "a")])
    assert len(inner.asked) == 2


@pytest.mark.parametrize("given", [0.5, None, True, "good", object()])
async def test_what_is_no_verdict_costs_itself_and_never_the_run(given: object) -> None:
    class Careless(EachVerifier):
        name = "careless"

        async def verdict(self, problem: str, candidate: Candidate) -> Verdict:
            return given if candidate.answer == "7" else Verdict(0.5)  # type: ignore[return-value]

    first, second = await verdicts_of(Careless(), "?", [Candidate("…", "7"), Candidate("…", "8")])
    assert first.empty
    assert type(given).__name__ in first.detail
    assert second == Verdict(0.5)
    model = LanguageModel(ScriptedEngine({"7": 1.0, "8": 1.0}), form="short")
    result = await fathom.asolve(model, "?", strategy=BestOfN(width=8, judge=Careless()))
    assert {t.answer for t in result.trajectories} == {"7", "8"}
    assert result.answer == "8"
    assert any(type(given).__name__ in note for note in result.receipt.notes)


async def test_one_failure_costs_one_verdict() -> None:
    verdicts = await Length().judge("p", [Candidate("…", "abc"), Candidate("…", None)])
    assert verdicts[0] == Verdict(0.25)
    assert (verdicts[1].score, verdicts[1].passed) == (0.0, None)
    assert "nothing to measure" in verdicts[1].detail


@pytest.mark.parametrize(("problem", "reason"), [("raise", "no connection"), ("short", "0 verdicts on 2")])
async def test_a_judge_that_breaks_costs_its_verdicts_only(problem: str, reason: str) -> None:
    verdicts = await Once(Broken()).judge(problem, [Candidate("x"), Candidate("y"), Candidate("x")])
    assert [(verdict.score, verdict.passed) for verdict in verdicts] == [(0.0, None)] * 3
    assert all(reason in verdict.detail for verdict in verdicts)


async def test_a_judge_that_looks_at_probabilities_tells_candidates_of_one_text_apart() -> None:
    judge = Once(make_judge("logprob"))
    sure, unsure = (Candidate("x", "x", logprobs=(logprob,)) for logprob in (-0.1, -2.0))
    first, second, again = await judge.judge("?", [sure, unsure, sure])
    assert first.score > second.score
    assert again == first


async def test_a_cancelled_caller_leaves_the_question_to_the_next() -> None:
    begun = asyncio.Event()

    class OnceHeld(Length):
        """Never comes to its first verdict."""

        async def verdict(self, problem: str, candidate: Candidate) -> Verdict:
            if not begun.is_set():
                self.asked.append(candidate)
                begun.set()
                await asyncio.Event().wait()
            return await super().verdict(problem, candidate)

    inner = OnceHeld()
    judge = Once(inner)
    first = asyncio.create_task(judge.judge("p", [Candidate("…", "abc")]))
    await begun.wait()
    second = asyncio.create_task(judge.judge("p", [Candidate("…", "abc")]))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not second.done()
    first.cancel()
    assert await second == [Verdict(0.25)]
    with pytest.raises(asyncio.CancelledError):
        await first
    assert len(inner.asked) == 2


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan"), float("inf")])
def test_scores_lie_between_0_and_1(score: float) -> None:
    with pytest.raises(ValueError, match="score"):
        Verdict(score)


def test_verifiers_are_known_by_their_form() -> None:
    assert isinstance(Length(), Verifier)
    assert isinstance(Once(Length()), Verifier)
    assert not isinstance(object(), Verifier)


@pytest.mark.parametrize("spec", ["llm", "llm(mode=pairwise, rounds=2)", "exact(reference=42)", "logprob(of=group)"])
def test_judges_are_written_as_their_specs(spec: str) -> None:
    assert str(make_judge(spec)) == spec
    assert f"judge={spec}" in str(STRATEGIES.build(f"best-of-n(width=4, judge={spec})"))
