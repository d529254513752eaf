"""How long chains become, and how widely that scatters, is learned from those that end."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from fathom.language.engines.base import EngineTraits
from fathom.language.prompts import FORMS
from fathom.language.timing import Habits, Timing
from fathom.planning.cost import CostModel


@pytest.mark.parametrize("width", [1, 4, 16])
@pytest.mark.parametrize(("within", "between"), [(0.75, 0.3), (0.75, 1.0), (0.3, 0.6)])
def test_questions_are_told_from_their_chains_however_many_and_whichever_ends_first(
    within: float, between: float, width: int
) -> None:
    rng = random.Random(f"{within} {between} {width}")
    habits = Habits()
    spreads: list[tuple[float, float]] = []
    for number in range(200):
        timing = Timing(EngineTraits("m", None), FORMS["short"], None, habits)
        usual = rng.gauss(4.0, between)
        for length in sorted(math.exp(rng.gauss(usual, within)) for _ in range(width)):
            timing.finished(max(1, round(length)))
        if number >= 50:
            costs = timing.costs(0)
            spreads.append((costs.spread, costs.differ))
    spread, differ = (sum(found) / len(spreads) for found in zip(*spreads, strict=True))
    assert math.hypot(spread, differ) == pytest.approx(math.hypot(within, between), rel=0.25)
    if width > 1:  # of single chains only the sum shows
        assert spread == pytest.approx(within, rel=0.35)
        assert differ == pytest.approx(between, rel=0.25)
    assert habits.log_depth == pytest.approx(4.0, abs=0.6)


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("limit", [20, 40, 80])
def test_chains_that_a_deadline_cuts_are_not_taken_for_short_ones(limit: int, width: int) -> None:
    """At the lowest limit, four of ten come to their own end."""
    usual = math.log(24.0)
    counted, left_out = (abs(mean_log(usual, limit, width, cut) - usual) for cut in (True, False))
    assert counted <= 0.5 * left_out
    assert counted <= 0.3


def mean_log(usual: float, limit: int, width: int, cut: bool) -> float:
    """What is learned of lengths of which those beyond a limit are cut, and counted or not."""
    rng = random.Random(f"{limit} {width}")
    habits = Habits()
    found: list[float] = []
    for number in range(240):
        timing = Timing(EngineTraits("m", None), FORMS["short"], None, habits)
        median = rng.gauss(usual, 0.6)
        for length in sorted(math.exp(rng.gauss(median, 0.6)) for _ in range(width)):
            if length <= limit:
                timing.finished(round(length))
            elif cut:
                timing.cut(limit)
        found += [habits.log_depth] if number >= 40 else []
    return statistics.fmean(found)


def test_ranges_hold_eight_runs_of_ten_after_few_questions() -> None:
    """How questions differ is then hardly known, and that is reckoned with."""
    rng = random.Random(random.SystemRandom().random())
    held: list[bool] = []
    for _ in range(120):
        within, between = rng.uniform(0.4, 0.9), rng.uniform(0.5, 1.1)
        questions = [rng.gauss(3.5, between) for _ in range(rng.randrange(3, 13) + 20)]
        asked = [[max(1, round(math.exp(rng.gauss(usual, within)))) for _ in range(8)] for usual in questions]
        habits = Habits()
        for chains in asked[20:]:
            timing = Timing(EngineTraits("m", None), FORMS["short"], None, habits)
            for length in chains:
                timing.finished(length)
        costs = Timing(EngineTraits("m", None), FORMS["short"], None, habits).costs(0)
        told = CostModel(costs).expect(8, None, 8).tokens_range
        assert told is not None
        held += [told[0] <= sum(chains) <= told[1] for chains in asked[:20]]
    assert 0.72 <= statistics.fmean(held) <= 0.88
