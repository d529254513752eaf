"""How long chains become, and how widely that scatters, is learned from those that end."""

from __future__ import annotations

import math
import random

import pytest

from fathom.language.engines.base import EngineTraits
from fathom.language.prompts import FORMS
from fathom.language.timing import Habits, Timing


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
