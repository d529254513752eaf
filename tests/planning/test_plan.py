"""Plans: never beyond a limit, never less for more, and depth 0 where nothing else fits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.costs import Costs
from fathom.language.engines.base import EngineTraits, Pace, Price
from fathom.language.prompts import FORMS, AnswerForm
from fathom.language.timing import Habits, Timing
from fathom.planning.ability import Measured
from fathom.planning.cost import CostModel
from fathom.planning.plan import Candidate, most_within, plan
from fathom.planning.prior import prior, prior_accuracy
from fathom.search.driver import CAUTION


def candidate(**changes: Any) -> Candidate:
    """A model of half a billion parameters on a slow machine."""
    facts: dict[str, Any] = {
        "engine": "scripted 1",
        "parameters": 500_000_000,
        "unit_seconds": {1: 0.1, 4: 0.17, 16: 0.55},
        "read_seconds": 0.5,
        "depth": 48.0,
        "answer_units": 6.0,
        "answer_tokens": 24,
        "prompt_tokens": 90,
        "unit_bytes": 12_000,
        "price": Price(0.5, 1.0),
        "room": 16,
    }
    costs = Costs("small", **{**facts, **changes})
    return Candidate(CostModel(costs), prior(costs))


limits = st.fixed_dictionaries(
    {},
    optional={
        "seconds": st.floats(0.05, 200),
        "tokens": st.integers(1, 5000),
        "width": st.integers(1, 40),
        "depth": st.integers(0, 400),
        "memory_bytes": st.integers(1, 10**9),
        "calls": st.integers(1, 80),
        "cost": st.floats(1e-7, 0.01),
    },
)


@given(limits, st.sampled_from(["vote", "verified", "graded"]), st.sampled_from([None, 1, 3, 16]))
@settings(max_examples=150)
def test_a_plan_stays_within_all_limits(limits: dict[str, float], selection: Any, room: int | None) -> None:
    found = plan(candidate(), limits, selection=selection, room=room)
    if found.fits:
        for choice in (found.choice, *found.runners_up):
            for name, limit in limits.items():
                assert choice.whole.most[name] <= limit, (choice.strategy, name)
            assert choice.accuracy <= found.choice.accuracy + 1e-9
    assert found.choice.width >= 1
    assert found.choice.told()


@given(limits, st.sampled_from(["seconds", "tokens", "width", "depth", "memory_bytes", "calls", "cost"]), st.data())
@settings(max_examples=150)
def test_more_budget_never_plans_for_less(limits: dict[str, float], name: str, data: st.DataObject) -> None:
    before = plan(candidate(), limits)
    if name in limits:
        limits = {**limits, name: limits[name] * data.draw(st.integers(1, 8))}
    after = plan(candidate(), limits)
    assert after.fits or not before.fits
    if before.fits:
        assert after.choice.accuracy >= before.choice.accuracy - 1e-9


def test_a_deadline_too_short_for_reasoning_plans_the_bare_answer() -> None:
    brief, ample = plan(candidate(), {"seconds": 2.0}), plan(candidate(), {"seconds": 60.0})
    assert brief.choice.depth == 0
    assert ample.choice.depth is None
    assert ample.choice.width > 1
    assert ample.choice.accuracy > brief.choice.accuracy


@given(st.floats(0.001, 0.3), st.floats(0.2, 60), st.integers(0, 200), st.floats(0, 5))
def test_reasoning_that_the_deadline_will_cut_is_planned_only_where_it_is_let_grow(
    step: float, seconds: float, unread: int, scatter: float
) -> None:
    pace, habits = Pace(step / 10, {1: step, 16: 5 * step}), Habits()
    habits.conclusion.spread = scatter
    timing = Timing(EngineTraits("m", None), FORMS[AnswerForm.SHORT], pace, habits, unread)
    costs = timing.costs(unread)
    found = plan(Candidate(CostModel(costs), prior(costs)), {"seconds": seconds, "width": 1}).choice
    timing.unread = 0
    left = seconds - costs.read_seconds - CAUTION * timing.reserve(1).seconds
    if found.depth and CostModel(costs).finished(found.depth) < 0.98:
        assert found.depth * pace.step(1) <= left + 1e-9


def test_without_limits_it_plans_as_wide_as_a_vote_is_by_default() -> None:
    found = plan(candidate(), {})
    assert found.choice.strategy == "vote(width=16)"
    assert found.choice.prediction.tokens < found.choice.whole.tokens, "it expects to stop early"
    assert len(found.runners_up) >= 1
    assert "stated priors" in found.explained()


@pytest.mark.parametrize("limits", [{"seconds": 3000.0}, {"tokens": 10**6}, {"calls": 500}, {"cost": 5.0}], ids=str)
def test_a_verifier_and_a_limit_plan_for_more_attempts_than_a_vote(limits: dict[str, float]) -> None:
    assert plan(candidate(), limits, selection="verified").choice.width == 128
    assert plan(candidate(), limits | {"width": 20}, selection="verified").choice.width == 20
    assert plan(candidate(), limits).choice.width == 16
    assert plan(candidate(), {}, selection="verified").choice.width == 16


def test_few_tokens_are_shared_by_few_samples_each_with_enough() -> None:
    found = plan(candidate(), {"tokens": 400})
    assert found.choice.depth is not None
    assert found.choice.depth >= 48
    assert found.choice.width * (found.choice.depth + 24) <= 400


def test_what_cannot_fit_is_tried_all_the_same_and_says_so() -> None:
    found = plan(candidate(), {"tokens": 1})
    assert not found.fits
    assert found.choice.width == 1
    assert any("does not fit" in note for note in found.notes)


def test_free_text_is_never_put_to_a_vote() -> None:
    found = plan(candidate(countable=False, answer_tokens=0, answer_units=0.0), {})
    assert found.choice.strategy == "direct"


def test_a_model_that_generates_nothing_is_planned_in_steps() -> None:
    latent = candidate(unit_tokens=0.0, depth=8.0, most_depth=64, answer_units=0.0, answer_tokens=0, base_bytes=1000)
    found = plan(latent, {"depth": 4, "tokens": 1}, selection="verified")
    assert found.fits
    assert found.choice.depth == 4
    assert found.choice.strategy == "best-of-n(width=128, depth=4)"


def test_a_queue_and_a_full_house_leave_less() -> None:
    free, queued = (plan(candidate(), {"seconds": 20.0}, queue_seconds=wait) for wait in (0.0, 12.0))
    assert queued.choice.accuracy < free.choice.accuracy
    crowded = plan(candidate(), {"seconds": 40.0}, room=1)
    assert crowded.choice.wave == 1
    assert crowded.choice.width < plan(candidate(), {"seconds": 40.0}).choice.width


def test_an_unknown_speed_leaves_the_clock_to_the_driver() -> None:
    found = plan(candidate(unit_seconds={}), {"seconds": 3.0})
    assert found.fits
    assert found.choice.prediction.seconds is None
    assert found.choice.wave == found.choice.width, "who knows no time waits for nothing"


def test_of_several_models_the_one_expected_best_within_the_limits_is_taken() -> None:
    large = candidate(parameters=1_500_000_000, unit_seconds={1: 0.3, 4: 0.5, 16: 1.6}, read_seconds=1.5)
    assert plan([candidate(), large], {"seconds": 9.0}).choice.member == 0
    assert plan([candidate(), large], {"seconds": 200.0}).choice.member == 1


def test_a_measured_strategy_is_taken_where_it_is_better() -> None:
    base = candidate()
    ability = prior(base.cost.costs)
    point = Measured("halving(width=8)", 8, None, 0.9, 0.86, 0.94, tokens=300, seconds=5.0)
    measured = Candidate(base.cost, type(ability)(ability.populations, 40, "a test", others=(point,)))
    assert plan(measured, {}).choice.strategy == "halving(width=8)"
    assert plan(measured, {"seconds": 3.0}).choice.strategy != "halving(width=8)"


@given(st.floats(0.1, 100), st.integers(0, 50))
@settings(max_examples=60)
def test_the_most_that_fits_fits_and_one_more_does_not(seconds: float, most: int) -> None:
    one, limits = candidate(), {"seconds": seconds}
    width, wave = most_within(one, limits, 48, most=most)
    assert width <= most
    if width:
        assert one.cost.predict(width, 48, wave).within(limits)
    if width < most:
        waves = range(1, width + 2)
        assert not any(one.cost.predict(width + 1, 48, w).within(limits) for w in (1, 2, 4, 8, 16) if w in waves)


@pytest.mark.parametrize("parameters", [0, 10**8, 4 * 10**8, 10**9, 10**12])
def test_larger_models_are_assumed_to_be_better(parameters: int) -> None:
    assert 0 < prior_accuracy(parameters) < 1
    if parameters:
        assert prior_accuracy(parameters) <= prior_accuracy(10 * parameters)
