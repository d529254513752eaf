"""Which model of a ladder to ask first: the one that is expected to do best within the limits, unless a few samples of
a cheaper one are likely to settle the question, and leave enough for the better one where they do not (FrugalGPT,
arXiv 2305.05176; agreement as the sign of it, arXiv 2310.03094)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fathom.planning.cost import Prediction
from fathom.planning.plan import Candidate, Choice, most_within, plan
from fathom.planning.population import Seen

__all__ = ["probe"]

_SAMPLES = (3, 4)
_RUNG = 4.0
"""How many times the work of a token of one model a token of the next takes, where the size of one is not known: those
of the embedded ones are apart by 3.7 and 3.1."""


def probe(
    candidates: Mapping[int, Candidate], best: Choice, limits: Mapping[str, float], *, worth: float
) -> Choice | None:
    """A few samples of a cheaper member to begin with, or None where that does not pay.

    It pays where, if they all agree, they are as likely to be right as what was planned, where what they are expected
    to save is more than what they take, and where what was planned still fits behind them. ``candidates`` are by
    member, ``best.member`` among them.
    """
    target = candidates[best.member]
    for member, candidate in sorted(candidates.items()):
        if member >= best.member or not candidate.cost.costs.countable:
            continue
        population = candidate.ability.population(1.0)
        for width in _SAMPLES:
            often, right = population.unanimous(width)
            if population.goes_on(Seen(width, width, 0), 16, worth) or right < best.accuracy - worth:
                continue
            taken = candidate.cost.predict(width, None, width)
            if often * _dearer(target, best.prediction, candidate, taken, best.member - member) <= 1.0:
                continue
            left = {name: limit - taken.most.get(name, 0.0) for name, limit in limits.items() if name != "depth"}
            if most_within(candidate, limits, None, most=width)[0] < width:
                continue
            if most_within(target, {**limits, **left}, best.depth, most=best.width)[0] < best.width:
                continue
            narrowed = plan(candidate, {**limits, "width": width}, worth=worth).choice
            return replace(narrowed, member=member, width=width, depth=None, wave=width)
    return None


def _dearer(target: Candidate, planned: Prediction, candidate: Candidate, taken: Prediction, rungs: int) -> float:
    """How many times what the candidate takes the target does, which stands so many rungs above it: in money where
    that is known of both, or else in time, or else in work, which is tokens times parameters."""
    for much, little in ((planned.dollars, taken.dollars), (planned.seconds, taken.seconds)):
        if much is not None and little:
            return much / little
    large, small = target.cost.costs.parameters, candidate.cost.costs.parameters
    return planned.tokens / taken.tokens * (large / small if large and small else _RUNG**rungs)
