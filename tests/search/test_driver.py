"""The driver keeps deadlines and limits, concludes what is unfinished, and leaves nothing running."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from exact_time import exactly_timed
from upstreams import Upstream

import fathom
from fathom import Budget, Meter, NoAnswer, Problem, Run, StopReason
from fathom.errors import CapabilityError, EngineError, LimitError, UpstreamError
from fathom.language.engines.base import Price
from fathom.language.engines.scripted import Latency, ScriptedEngine
from fathom.language.model import LanguageModel
from fathom.models import open_model
from fathom.search.base import Action
from fathom.search.samples import SampleSearch

Make = Callable[..., LanguageModel]


LATENCY = Latency(first=0.04, token=0.016)


@exactly_timed
async def test_a_deadline_costs_quality_never_the_answer(scripted: Make, fresh: int) -> None:
    model = scripted({str(fresh): 1}, latency=LATENCY, room=4)
    result = await fathom.asolve(model, "?", strategy="vote(width=64, stop=never)", within=0.8)
    assert result.answer == str(fresh)
    assert result.receipt.stopped is StopReason.DEADLINE
    assert result.receipt.spent.width < 64
    assert model.engine.running == 0


@exactly_timed
async def test_what_is_unfinished_at_the_deadline_is_concluded(scripted: Make) -> None:
    model = scripted({"7": 1}, latency=LATENCY, room=4)
    result = await fathom.asolve(model, "?", within=0.3)
    assert result.receipt.spent.tokens_by_role["conclude"] > 0
    assert [(c.answer, c.finished) for c in result.receipt.candidates] == [("7", False)]
    assert "\\boxed{7" in result.text


def standing_still(monkeypatch: pytest.MonkeyPatch, until: float) -> None:
    """The second time that the search is asked what to do, it becomes so late."""
    clock, ask, asked = asyncio.get_running_loop(), SampleSearch.ask, 0

    def held_up(search: SampleSearch, room: int) -> Sequence[Action]:
        nonlocal asked
        asked += 1
        if asked == 2:
            clock.now = max(clock.now, until)  # type: ignore[attr-defined]
        return ask(search, room)

    monkeypatch.setattr(SampleSearch, "ask", held_up)


@exactly_timed
async def test_a_machine_that_stands_still_until_the_deadline_costs_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    model = LanguageModel(ScriptedEngine(lambda prompt, rng: " so" * 5000, latency=LATENCY), form="text")
    standing_still(monkeypatch, until=asyncio.get_running_loop().time() + 0.99)
    result = await fathom.asolve(model, "?", strategy="vote(width=1)", within=1)
    assert set(result.answer.split()) == {"so"}
    assert result.receipt.stopped is StopReason.DEADLINE


@exactly_timed
async def test_a_moment_from_which_to_conclude_that_comes_between_two_looks_at_the_clock_is_not_missed(
    scripted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = scripted(lambda prompt, rng: "7}" if prompt.prefix_text else " so" * 500, latency=LATENCY)
    standing_still(monkeypatch, until=asyncio.get_running_loop().time() + 0.9)
    result = await fathom.asolve(model, "?", strategy="vote(width=1)", within=1)
    assert result.answer == "7"
    assert result.receipt.spent.tokens_by_role["conclude"] > 0


@exactly_timed
async def test_a_budget_too_short_for_anything_says_so_and_has_its_receipt(scripted: Make) -> None:
    model = scripted({"7": 1}, latency=Latency(first=5.0))
    began = time.monotonic()
    with pytest.raises(NoAnswer, match="deadline") as caught:
        await fathom.asolve(model, "?", within=0.1)
    assert time.monotonic() - began <= 0.1
    assert caught.value.receipt is not None
    assert caught.value.receipt.spent.seconds <= 0.1
    assert model.engine.running == 0


@pytest.mark.parametrize("limit", [20, 57, 150, 400])
async def test_tokens_are_never_exceeded_and_still_end_in_an_answer(scripted: Make, limit: int, fresh: int) -> None:
    model = scripted({str(fresh): 1}, room=8)
    run = Run(model, Problem.of("?"), fathom.Vote(width=128, stop="never"), Budget(tokens=limit))
    result = await run.finish()
    assert result.receipt.spent.tokens <= limit
    assert result.answer == str(fresh)
    assert result.receipt.stopped is StopReason.TOKENS
    assert run.meter.tokens_left == limit - result.receipt.spent.tokens


async def test_calls_and_width_are_limits_too(scripted: Make) -> None:
    model = scripted({"1": 1}, room=8)
    result = await fathom.asolve(model, "?", strategy="vote(stop=never)", budget=Budget(calls=6))
    assert 1 <= result.receipt.spent.calls <= 6
    assert result.receipt.stopped is StopReason.CALLS
    result = await fathom.asolve(model, "?", strategy="vote(stop=never)", budget=Budget(width=5))
    assert result.receipt.spent.width == 5
    assert result.receipt.stopped is StopReason.EXHAUSTED


async def test_cost_is_kept_and_reported(scripted: Make) -> None:
    price = Price(prompt=1, completion=1000)
    model = scripted({"1": 1}, room=4, price=price)
    result = await fathom.asolve(model, "?", strategy="vote(width=50, stop=never)", budget=Budget(cost=0.2))
    assert result.receipt.spent.cost is not None
    assert 0.02 < result.receipt.spent.cost <= 0.2
    assert result.receipt.stopped is StopReason.COST


async def test_a_cost_limit_without_prices_is_refused(scripted: Make) -> None:
    with pytest.raises(LimitError, match="price"):
        await fathom.asolve(scripted({"1": 1}), "?", budget=Budget(cost=1))


async def test_memory_bounds_what_runs_together(scripted: Make) -> None:
    model = scripted({"1": 1}, room=8, context_length=200)
    held_by_one = 1024 * 200
    result = await fathom.asolve(
        model, "?", strategy="vote(width=8, stop=never)", budget=Budget(memory_bytes=3 * held_by_one)
    )
    assert result.receipt.spent.memory_bytes <= 3 * held_by_one
    assert result.answer == "1"


async def test_a_width_over_the_models_is_refused_by_name(scripted: Make) -> None:
    model = scripted({"1": 1}, max_width=4)
    for call in ({"strategy": "vote(width=5)"}, {"budget": Budget(width=5)}):
        with pytest.raises(LimitError, match="4") as caught:
            await fathom.asolve(model, "?", **call)
        assert caught.value.limit == "width"


@exactly_timed
async def test_cancelling_the_task_cancels_everything_and_keeps_the_account(scripted: Make, slow: Latency) -> None:
    model = scripted({"1": 1}, latency=slow, room=8)
    run = Run(model, Problem.of("?"), fathom.Vote(width=8), Budget())
    task = asyncio.create_task(run.finish())
    await asyncio.sleep(0.05)
    assert model.engine.running == 8
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.engine.running == 0
    assert run.result.receipt.stopped is StopReason.CANCELLED
    assert run.result.receipt.spent.tokens > 0
    assert len(asyncio.all_tasks()) == 1


@exactly_timed
async def test_stopping_gives_the_best_so_far(scripted: Make, slow: Latency) -> None:
    model = scripted({"1": 1}, latency=slow, room=2)
    run = Run(model, Problem.of("?"), fathom.Vote(width=50, stop="never"), Budget())

    def when_there_is_an_answer() -> None:
        if run.update.answer is not None:
            run.stop()

    result = await run.finish(when_there_is_an_answer)
    assert result.answer == "1"
    assert result.receipt.stopped is StopReason.CANCELLED
    assert model.engine.running == 0


async def test_lost_samples_cost_only_themselves(scripted: Make, fresh: int) -> None:
    def fail(seed: int) -> EngineError | None:
        return UpstreamError("boom", status=500) if seed % 3 == 0 else None

    model = scripted({str(fresh): 1}, fail=fail, room=4)
    result = await fathom.asolve(model, "?", strategy="vote(width=12, stop=never)")
    assert result.answer == str(fresh)
    assert sum(c.votes for c in result.receipt.candidates) == 8
    assert any("boom" in note for note in result.receipt.notes)


async def test_a_lost_sample_gives_its_place_in_the_wave_to_the_next(scripted: Make, fresh: int) -> None:
    def fail(seed: int) -> EngineError | None:
        return UpstreamError("boom", status=500) if seed < 3 else None

    most = 0

    def observe() -> None:
        nonlocal most
        most = max(most, model.engine.running)

    model = scripted({str(fresh): 1}, fail=fail, room=8)
    run = Run(model, Problem.of("?"), fathom.Vote(width=9, wave=2, stop="never"), Budget())
    result = await run.finish(observe)
    assert sum(c.votes for c in result.receipt.candidates) == 6
    assert most <= 2


async def test_when_nothing_comes_back_the_error_says_what_the_upstream_said(scripted: Make) -> None:
    model = scripted({"1": 1}, fail=lambda seed: UpstreamError("the model is on holiday", status=503))
    with pytest.raises(UpstreamError, match="on holiday"):
        await fathom.asolve(model, "?")


@pytest.mark.parametrize("spec", ["direct", "direct(depth=0)", "auto(depth=0)", "vote(width=3, depth=0) | refine"])
async def test_a_refused_key_is_told_as_such_also_where_the_answer_is_asked_for_at_once(spec: str) -> None:
    with Upstream(fault=lambda number: "401") as server:
        model = await open_model(f"openai:m@{server.url}", api_key="of yesterday")
        try:
            with pytest.raises(UpstreamError, match=r"answered 401.*check the API key") as caught:
                await fathom.asolve(model, "?", strategy=spec)
        finally:
            await model.aclose()
    assert str(caught.value).count("answered 401") == 1


async def test_the_same_seed_gives_the_same_run(scripted: Make) -> None:
    def outcome(result: fathom.Result) -> Any:
        return [(t.id, t.text) for t in sorted(result.trajectories, key=lambda t: t.id)], result.answer

    script = {str(i): 1.0 for i in range(40)}
    first, again, other = [
        outcome(await fathom.asolve(scripted(script), "?", strategy="vote(width=9, stop=never)", seed=seed))
        for seed in (5, 5, 6)
    ]
    assert first == again
    assert first != other


async def test_needs_are_checked_before_anything_is_spent(scripted: Make) -> None:
    model = scripted({"1": 1})
    model.engine._traits = fathom.language.engines.base.EngineTraits(model="mute")  # an engine without logprobs
    with pytest.raises(CapabilityError, match="logprobs"):
        await fathom.asolve(model, "?", strategy="best-of-n")


async def test_a_shared_meter_holds_many_runs_to_one_purse(scripted: Make) -> None:
    purse = Meter(Budget(tokens=300))
    model = scripted({"1": 1}, room=4)
    runs = [
        fathom.asolve(model, "?", strategy="vote(width=8, stop=never)", budget=purse.nested(Budget())) for _ in range(6)
    ]
    results = await asyncio.gather(*runs, return_exceptions=True)
    assert purse.spent.tokens <= 300
    assert any(isinstance(r, fathom.Result) for r in results)
    assert all(isinstance(r, fathom.Result | NoAnswer) for r in results)


@exactly_timed
async def test_updates_firm_up_and_end_with_the_result(scripted: Make, slow: Latency) -> None:
    model = scripted({"1": 1}, latency=slow, room=2)
    updates = [u async for u in fathom.stream(model, "?", strategy="vote(width=6, stop=never)")]
    assert updates[-1].final is not None
    assert all(u.final is None for u in updates[:-1])
    confidences = [u.confidence for u in updates]
    assert confidences == sorted(confidences)
    assert len(updates) > 2


async def test_leaving_a_stream_early_cancels_the_run(scripted: Make, slow: Latency) -> None:
    model = scripted({"1": 1}, latency=slow, room=2)
    stream = fathom.stream(model, "?", strategy="vote(width=30, stop=never)")
    async for _ in stream:
        break
    await stream.aclose()
    assert model.engine.running == 0
    assert len(asyncio.all_tasks()) == 1


def test_the_synchronous_call_works_with_and_without_a_running_loop(fresh: int) -> None:
    model = LanguageModel(ScriptedEngine({str(fresh): 1}))
    assert fathom.solve(model, "?").answer == str(fresh)

    async def inside() -> str:
        return fathom.solve(model, "?").answer

    assert asyncio.run(inside()) == str(fresh)
