"""What is held back for the judge: verdicts for what was found, within every limit, and an answer before all else."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

import pytest
from exact_time import exactly_timed
from hypothesis import given
from hypothesis import strategies as st

import fathom
from fathom import Budget, Meter, Problem, StopReason
from fathom.judges.asking import VERDICT_TOKENS
from fathom.judges.base import Candidate, Verdict
from fathom.judges.llm import LLM
from fathom.language.engines.base import Prompt
from fathom.language.engines.scripted import Latency, ScriptedEngine
from fathom.language.model import LanguageModel
from fathom.search import BestOfN, Particles
from fathom.search.holdback import Holdback

Make = Callable[..., LanguageModel]


def solver(prompt: Prompt, rng: random.Random) -> str:
    """Solves at some length, and grades 5 what holds a 7."""
    if prompt.messages[0].content.startswith("You grade"):
        return json.dumps({"score": 5 if re.search(r"boxed\{7", prompt.messages[-1].content) else 2})
    if prompt.prefix_text.endswith("\\boxed{"):
        return f"{rng.randrange(10)}}}."
    words = [f"word{rng.randrange(100)}" for _ in range(rng.randrange(10, 40))]
    return " ".join([*words, f"\\boxed{{{rng.randrange(10)}}}."])


@pytest.mark.parametrize("limit", [200, 450, 900])
async def test_what_was_found_within_a_token_budget_is_judged_within_it_too(scripted: Make, limit: int) -> None:
    result = await fathom.asolve(
        scripted(solver, room=4), "?", strategy=BestOfN(width=64, judge=LLM()), budget=Budget(tokens=limit)
    )
    assert result.receipt.spent.tokens <= limit
    assert result.receipt.spent.tokens_by_role["judge"] > 0
    assert result.receipt.stopped is StopReason.TOKENS
    assert all(candidate.score is not None for candidate in result.receipt.candidates)
    assert not any("nothing for the judge" in note for note in result.receipt.notes)


async def test_steps_of_a_tree_are_judged_within_a_token_budget(scripted: Make) -> None:
    strategy = Particles(width=4, step_tokens=12, judge=LLM())
    result = await fathom.asolve(scripted(solver, room=4), "?", strategy=strategy, budget=Budget(tokens=700))
    assert result.receipt.spent.tokens <= 700
    assert result.answer
    assert not any("nothing for the judge" in note for note in result.receipt.notes)


@pytest.mark.parametrize("limit", [8, 26, 40, 60])
async def test_of_a_budget_too_small_for_both_the_answer_comes_first(scripted: Make, limit: int) -> None:
    strategy = BestOfN(width=8, judge=LLM())
    result = await fathom.asolve(scripted(solver), "?", strategy=strategy, budget=Budget(tokens=limit))
    assert result.answer
    assert result.receipt.spent.tokens <= limit


class Slow:
    """Takes its time, whatever it is shown."""

    name: ClassVar[str] = "slow"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.judged: set[str | None] = set()

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
        await asyncio.sleep(self.seconds)
        self.judged.update(candidate.text for candidate in candidates)
        return [Verdict(0.5) for _ in candidates]


@exactly_timed
async def test_a_deadline_leaves_the_judge_the_time_that_it_has_been_taking(scripted: Make) -> None:
    judge = Slow(0.25)
    model = scripted(solver, room=4, latency=Latency(first=0.01, token=0.004))
    began = time.monotonic()
    result = await fathom.asolve(model, "?", strategy=BestOfN(width=400, judge=judge), within=1.5)
    assert time.monotonic() - began <= 1.5
    assert result.receipt.stopped is StopReason.DEADLINE
    answered = [t for t in result.trajectories if t.answer is not None]
    assert all(t.text in judge.judged for t in answered)


@given(st.integers(100, 3000), st.lists(st.sampled_from(["grow", "judge", "lose"]), max_size=40), st.randoms())
def test_whatever_happens_no_limit_is_passed_and_all_is_given_back(
    limit: int, events: list[str], rng: random.Random
) -> None:
    async def session(meter: Meter) -> object:
        return await LanguageModel(ScriptedEngine(solver)).open(Problem.of("?"), meter)

    meter = Meter(Budget(tokens=limit))
    holdback = Holdback(meter, asyncio.run(session(meter)))  # type: ignore[arg-type]
    judge, waiting, ids = LLM(), [], iter(range(1000))
    for event in events:
        if event == "grow":
            new = [next(ids) for _ in range(rng.randrange(1, 5))]
            before = meter.tokens_left
            begun = holdback.before(new, judge)
            held = before - meter.tokens_left
            assert held in (0, VERDICT_TOKENS * len(begun))
            assert held == 0 or meter.tokens_left > held
            assert list(begun) == new[: len(begun)]
            waiting += begun
            with meter.lease(rng.randrange(1, 80)) as lease:
                lease.charge("sample", tokens=rng.randrange(lease.tokens + 1))
        elif waiting:
            id = waiting.pop(rng.randrange(len(waiting)))
            if event == "judge":
                was_held = id in holdback._held
                holdback.ask([id])
                with holdback.purse.lease(VERDICT_TOKENS) as lease:
                    assert lease.tokens == VERDICT_TOKENS or not was_held
                    lease.charge("judge", tokens=lease.tokens)
            holdback.settle([id])
        assert 0 <= meter.tokens_left <= limit - meter.spent.tokens
    holdback.close()
    assert meter.tokens_left == limit - meter.spent.tokens
