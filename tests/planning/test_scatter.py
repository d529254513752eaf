"""Ranges hold as many runs as they say, on lengths that a generator of its own draws."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.costs import Costs
from fathom.planning.cost import CostModel
from fathom.planning.scatter import rolling

COSTS = Costs("m", unit_seconds={1: 0.1, 16: 0.4}, depth=60.0, answer_units=4.0)


@pytest.mark.parametrize("cap", [None, 80])
def test_eight_runs_of_ten_come_to_lie_within(cap: int | None) -> None:
    """A range is of a few hundred plays, so that one alone may hold some hundredths more or less; their mean does not.
    A cap on which many runs end may lie within with all of them."""
    rng = random.Random(random.SystemRandom().random())
    held = [share_within(cap, rng) for _ in range(12)]
    for shares in zip(*held, strict=True):
        mean = statistics.fmean(shares)
        assert 0.73 <= mean <= 0.87 if cap is None else mean >= 0.7
        assert min(shares) >= 0.6


def share_within(cap: int | None, rng: random.Random) -> tuple[float, float]:
    """The shares of runs whose seconds, and whose tokens, lie within the ranges of a plan that is drawn here."""
    width, runs = rng.randrange(1, 9), 500
    costs = replace(COSTS, spread=rng.uniform(0.2, 0.9), differ=rng.uniform(0.0, 0.7), most_depth=1000)
    expected = CostModel(costs, drag := rng.uniform(0.5, 2.0), pace_spread=0.0).expect(width, cap, 3)
    assert expected.seconds_range is not None
    assert expected.tokens_range is not None
    seconds = tokens = 0
    for _ in range(runs):
        usual = costs.depth * math.exp(-(costs.spread**2 + costs.differ**2) / 2 + rng.gauss(0, costs.differ))
        drawn = [usual * math.exp(rng.gauss(0, costs.spread)) for _ in range(width)]
        lengths = [length if length < (cap or 1000) else (cap or 1000) + costs.answer_units for length in drawn]
        taken = drag * rolling(lengths, 3, costs.step)[0]
        seconds += expected.seconds_range[0] <= taken <= expected.seconds_range[1]
        tokens += expected.tokens_range[0] <= sum(lengths) <= expected.tokens_range[1]
    return seconds / runs, tokens / runs


@given(st.lists(st.floats(1, 1e3), min_size=1, max_size=12), st.integers(1, 12), st.floats(0, 1))
def test_a_wave_takes_no_less_than_its_longest_and_no_more_than_one_after_another(
    lengths: list[float], wave: int, crowding: float
) -> None:
    def step(width: int) -> float:
        return 1 + crowding * (width - 1)

    taken, units = rolling(lengths, wave, step)
    assert max(lengths) * (1 - 1e-9) <= taken <= sum(lengths) * (1 + 1e-9)
    assert rolling(lengths, 1, step)[0] == pytest.approx(sum(lengths))
    assert units == pytest.approx(sum(lengths))


def test_what_still_goes_when_one_is_right_has_had_its_units() -> None:
    """Three at a time of 4, 10, 6 and 9 units; the second that ends, at 6, is the last: 10 has had 6, and 9 two."""
    assert rolling([4, 10, 6, 9], 3, lambda width: 1.0, until=2) == (6.0, 4 + 6 + 6 + 2)
    assert rolling([4, 10, 6, 9], 3, lambda width: width, until=1) == (12.0, 12.0)


def test_with_each_that_fails_one_more_runs_at_a_time() -> None:
    at: list[int] = []

    def step(width: int) -> float:
        at.append(width)
        return 1.0

    assert rolling([5.0] * 7, 1, step, grows=True) == (15.0, 35.0)  # one, then two, then four
    assert at == [1, 2, 3, 4, 3, 2, 1]


def test_a_race_is_expected_to_spend_what_runs_beside_the_one_that_is_right() -> None:
    draws = [0.6, 0.2, 0.1, 0.1]
    alone = CostModel(COSTS).expect(4, None, 1, draws, racing=True)
    together = CostModel(COSTS).expect(4, None, 4, draws, racing=True)
    grown = CostModel(COSTS).expect(4, None, 1, draws, racing=True, grows=True)
    assert alone.tokens < grown.tokens < together.tokens
    assert alone.tokens == pytest.approx(1.7 * COSTS.depth, rel=0.2)
    assert grown.seconds is not None
    assert alone.seconds is not None
    assert grown.seconds < alone.seconds


def test_what_is_not_known_has_no_range() -> None:
    expected = CostModel(replace(COSTS, unit_seconds={}, unit_tokens=0.0)).expect(4, None, 2)
    assert (expected.seconds, expected.seconds_range, expected.tokens_range) == (None, None, None)
    assert CostModel(COSTS).expect(4, None, 2) == CostModel(COSTS).expect(4, None, 2)


def test_a_vote_that_may_end_early_is_expected_to_take_less() -> None:
    whole = CostModel(COSTS).expect(8, None, 4)
    early = CostModel(COSTS).expect(8, None, 4, [0, 0, 0.9, 0, 0, 0, 0, 0.1])
    assert early.tokens < whole.tokens
    assert early.tokens_range is not None
    assert whole.tokens_range is not None
    assert early.tokens_range[1] < whole.tokens_range[1]


def test_a_limit_ends_the_range() -> None:
    free = CostModel(COSTS).expect(4, None, 2)
    held = free.held({"seconds": 1.0, "tokens": 10_000})
    assert free.seconds_range is not None
    assert held.seconds_range == (1.0, 1.0)
    assert free.seconds_range[1] > 1.0
    assert held.tokens_range == free.tokens_range
