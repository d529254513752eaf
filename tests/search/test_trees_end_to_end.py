"""Searches over steps on the scripted engine, through the same session, driver and meter as any model."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest
from exact_time import exactly_timed
from upstreams import Upstream

import fathom
from fathom import Budget, Meter, Problem, Run, StopReason
from fathom.api import strategy_of
from fathom.errors import CapabilityError, SpecError, UpstreamError
from fathom.judges.base import Candidate, Verdict
from fathom.language.engines.base import EngineTraits, Prompt
from fathom.language.engines.scripted import Latency
from fathom.language.model import LanguageModel
from fathom.models import open_model
from fathom.search.base import Terms
from fathom.search.driver import Driver

Make = Callable[..., LanguageModel]

STEPS = 3
SPECS = {
    "beam": "beam(width=8, branching=2)",
    "dvts": "dvts(width=8, branching=2)",
    "rebase": "rebase(width=8)",
    "particles": "particles(width=8)",
}
every = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def taken(text: str) -> list[int]:
    return [int(digit) for digit in re.findall(r"take (\d)", text)]


def steps(prompt: Prompt, rng: random.Random) -> str:
    """Takes a digit in each step; the answer is their sum. Continues whatever it is given."""
    before = prompt.prefix_text
    if before.endswith("\\boxed{"):
        return f"{sum(taken(before))}}}."
    more = [rng.randrange(10) for _ in range(STEPS - len(taken(before)))]
    lines = [f"Then I take {digit} of them, as is right." for digit in more]
    return "\n\n".join([*lines, f"The answer is \\boxed{{{sum([*taken(before), *more])}}}."])


class Greed:
    """Thinks well of large digits, of the last one taken most."""

    name: ClassVar[str] = "greed"

    def __init__(self) -> None:
        self.asked: list[Candidate] = []

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
        self.asked += candidates
        return [Verdict(sum(taken(c.text)) / (9 * max(1, len(taken(c.text))))) for c in candidates]


async def nothing_runs(model: LanguageModel) -> bool:
    await asyncio.sleep(0)
    return model.engine.running == 0 and len(asyncio.all_tasks()) == 1


@every
async def test_an_answer_comes_from_steps_that_were_continued_word_by_word(scripted: Make, spec: str) -> None:
    model = scripted(steps, room=8)
    result = await fathom.asolve(model, "?", strategy=spec)
    assert result.receipt.stopped is StopReason.EXHAUSTED
    assert len(taken(result.text)) == STEPS
    assert result.text.count("\n\n") == STEPS
    assert result.answer == str(sum(taken(result.text)))
    assert all(candidate.finished for candidate in result.receipt.candidates)
    assert result.receipt.spent.width == 8
    assert "conclude" not in result.receipt.spent.tokens_by_role
    assert await nothing_runs(model)


@pytest.mark.parametrize("kind", SPECS)
async def test_a_judge_that_knows_leads_to_a_better_answer_than_sampling(scripted: Make, kind: str) -> None:
    spec = SPECS[kind][:-1] + ", select=best)"
    found = [
        int((await fathom.asolve(scripted(steps), "?", strategy=spec, verify=Greed(), seed=seed)).answer)
        for seed in range(6)
    ]
    assert sum(found) / 6 > STEPS * 4.5 + 4


@every
async def test_the_same_seed_gives_the_same_tree_however_it_is_timed(scripted: Make, spec: str) -> None:
    def tree(result: fathom.Result) -> object:
        return sorted((t.id, t.parent, t.text) for t in result.trajectories), result.answer

    quick = await fathom.asolve(scripted(steps), "?", strategy=spec, seed=5)
    slow = await fathom.asolve(scripted(steps, room=3, latency=Latency(token=1e-4)), "?", strategy=spec, seed=5)
    other = await fathom.asolve(scripted(steps), "?", strategy=spec, seed=6)
    assert tree(quick) == tree(slow)
    assert tree(quick) != tree(other)


@every
@pytest.mark.parametrize("limit", [30, 90, 200, 500])
async def test_tokens_are_never_exceeded_and_still_end_in_an_answer(scripted: Make, spec: str, limit: int) -> None:
    model = scripted(steps, room=8)
    run = Run(model, Problem.of("?"), strategy_of(spec), Budget(tokens=limit))
    result = await run.finish()
    assert result.receipt.spent.tokens <= limit
    assert result.answer
    assert run.meter.tokens_left == limit - result.receipt.spent.tokens
    assert await nothing_runs(model)


@every
@exactly_timed
async def test_at_the_deadline_open_lines_are_concluded_and_never_given_back_raw(scripted: Make, spec: str) -> None:
    model = scripted(steps, room=8, latency=Latency(first=0.005, token=0.004))
    began = time.monotonic()
    result = await fathom.asolve(model, "?", strategy=spec, within=0.12)
    assert time.monotonic() - began <= 0.12
    assert result.receipt.stopped is StopReason.DEADLINE
    assert result.receipt.spent.tokens_by_role["conclude"] > 0
    assert not any(candidate.finished for candidate in result.receipt.candidates)
    assert "The answer is \\boxed{" in result.text
    assert result.answer == str(sum(taken(result.text)))
    assert await nothing_runs(model)


@every
async def test_lines_that_rest_when_there_is_no_time_for_more_are_concluded(
    scripted: Make, spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near its end a session has no room for what cannot get far any more; what waits then must not be forgotten."""
    model, meter = scripted(steps), Meter()
    search = strategy_of(spec).begin(Terms())
    session = await model.open(Problem.of("?"), meter, wants=strategy_of(spec).wants)
    monkeypatch.setattr(session, "room", lambda meter: 0 if search.trajectories else 8)
    reason = await Driver(search, session, Problem.of("?"), meter).run()
    await session.aclose()
    assert reason is StopReason.DEADLINE
    assert len(search.trajectories) == 8
    concluded = [t for t in search.trajectories.values() if t.answer is not None]
    assert len(concluded) >= 4, "all but those that were dropped for others"
    assert not any(t.finished for t in concluded)
    assert not search.at_rest


@every
async def test_cancelling_anywhere_leaves_nothing_running(scripted: Make, spec: str) -> None:
    for nodes in (1, 8, 11, 16):
        model = scripted(steps, room=8, latency=Latency(first=0.005, token=0.004))
        run = Run(model, Problem.of("?"), strategy_of(spec), Budget())
        news = asyncio.Event()
        task = asyncio.create_task(run.finish(news.set))
        while len(run.search.trajectories) < nodes:
            news.clear()
            await news.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert run.result.receipt.stopped is StopReason.CANCELLED
        assert await nothing_runs(model)


@every
async def test_lines_that_are_lost_cost_only_themselves(scripted: Make, spec: str) -> None:
    model = scripted(steps, fail=lambda seed: UpstreamError("boom", status=500) if seed % 3 == 0 else None)
    result = await fathom.asolve(model, "?", strategy=spec)
    assert result.answer == str(sum(taken(result.text)))
    assert any("boom" in note for note in result.receipt.notes)


async def test_the_judge_sees_steps_without_and_ends_with_answers_each_text_once(scripted: Make) -> None:
    judge = Greed()
    await fathom.asolve(scripted(steps), "?", strategy="rebase(width=12)", verify=judge)
    assert any(c.answer is None for c in judge.asked)
    assert {c.answer for c in judge.asked if c.answer is not None}
    assert len({(c.text, c.answer) for c in judge.asked}) == len(judge.asked)


async def test_a_judge_that_fails_costs_its_verdicts_and_is_noted(scripted: Make) -> None:
    class Broken(Greed):
        async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
            raise OSError("the disk is full")

    result = await fathom.asolve(scripted(steps), "?", strategy="beam(width=4, branching=2)", verify=Broken())
    assert result.answer
    assert any("disk is full" in note for note in result.receipt.notes)


async def test_steps_that_never_end_are_cut_at_their_tokens_and_lines_at_their_depth(scripted: Make) -> None:
    def endless(prompt: Prompt, rng: random.Random) -> str:
        return "7}" if prompt.prefix_text.endswith("\\boxed{") else "".join(f" on{rng.random()}" for _ in range(900))

    result = await fathom.asolve(scripted(endless), "?", strategy="rebase(width=4, step_tokens=10, depth=35)")
    assert result.answer == "7"
    depths = {t.depth for t in result.trajectories}
    assert depths == {10, 20, 30, 35}


async def test_a_full_context_concludes(scripted: Make) -> None:
    def endless(prompt: Prompt, rng: random.Random) -> str:
        return "7}" if prompt.prefix_text.endswith("\\boxed{") else "".join(f" on{rng.random()}" for _ in range(900))

    model = scripted(endless, context_length=120)
    result = await fathom.asolve(model, "?", strategy="beam(width=4, branching=2, step_tokens=20)")
    assert result.answer == "7"
    assert " on0." in result.text


@pytest.mark.parametrize("lines", [1, 3, 12])
@every
async def test_memory_bounds_what_is_open_and_is_given_back_by_what_is_dropped(
    scripted: Make, spec: str, lines: int
) -> None:
    model = scripted(steps, room=8)
    held_by_one = 1024 * 200
    budget = Budget(memory_bytes=lines * held_by_one)
    result = await fathom.asolve(model, "?", strategy=spec, budget=budget)
    assert 0 < result.receipt.spent.memory_bytes <= lines * held_by_one
    assert result.answer == str(sum(taken(result.text)))
    if lines == 12:  # enough for a step and its parents, but not for all that ever ran
        assert result.receipt.stopped is StopReason.EXHAUSTED
        assert "conclude" not in result.receipt.spent.tokens_by_role


async def test_a_text_that_is_the_answer_itself_grows_step_by_step(scripted: Make) -> None:
    def poem(prompt: Prompt, rng: random.Random) -> str:
        verses = prompt.prefix_text.count("\n\n")
        return "\n\n".join(f"Verse {i} of {rng.random()}." for i in range(verses, 4))

    result = await fathom.asolve(scripted(poem, form="text"), "?", strategy="beam(width=4, branching=2, select=best)")
    assert [verse[:7] for verse in result.answer.split("\n\n")] == [f"Verse {i}" for i in range(4)]


async def test_steps_go_on_at_a_server_that_does_not_tell_what_stopped_it() -> None:
    """What ends in a number, say, is no answer yet: only what is marked as one ends a line of thought."""

    def one_step(body: dict[str, Any], choice: int) -> list[str]:
        last = body["messages"][-1]
        before = taken(last["content"]) if last["role"] == "assistant" else []
        if len(before) == STEPS:
            return ["So the answer is", f" \\boxed{{{sum(before)}}}."]
        return ["So I", f" take {choice}"]

    with Upstream(tokens=one_step, owner="llamacpp") as server:
        model = await open_model(f"openai:m@{server.url}")
        result = await fathom.asolve(model, "?", strategy="beam(width=4, branching=2)", verify=Greed())
        await model.aclose()
    assert result.text.count("\n\n") == STEPS
    assert result.answer == str(sum(taken(result.text)))


@every
async def test_depth_zero_answers_at_once(scripted: Make, spec: str) -> None:
    result = await fathom.asolve(scripted({"12": 1}), "?", strategy=spec[:-1] + ", depth=0)")
    assert result.answer == "12"
    assert "sample" not in result.receipt.spent.tokens_by_role


@every
async def test_what_an_engine_lacks_is_refused_before_anything_is_spent(scripted: Make, spec: str) -> None:
    model = scripted(steps)
    model.engine._traits = EngineTraits(model="mute")
    with pytest.raises(CapabilityError, match=r"fork.*logprobs.*steps"):
        await fathom.asolve(model, "?", strategy=spec)
    with pytest.raises(CapabilityError, match=r"fork, steps"):
        await fathom.asolve(model, "?", strategy=spec, verify=Greed())


async def test_a_width_that_branching_does_not_divide_is_refused_before_anything_is_spent(scripted: Make) -> None:
    model = scripted(steps)
    with pytest.raises(SpecError, match="branching"):
        await fathom.asolve(model, "?", strategy="dvts", budget=Budget(width=6))


@pytest.mark.parametrize("kind", SPECS)
async def test_trees_can_be_part_of_a_pipeline(scripted: Make, kind: str) -> None:
    first = await fathom.asolve(scripted(steps), "?", strategy=f"vote(width=3, stop=never) | {SPECS[kind]}")
    assert first.answer == str(sum(taken(first.text)))
    result = await fathom.asolve(scripted(steps), "?", strategy=f"{SPECS[kind]} | vote(width=3, stop=never)")
    assert result.answer == str(sum(taken(result.text)))
