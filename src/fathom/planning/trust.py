"""How much the votes of several models weigh that answer together, from what was measured of each.

A model that is right with probability p has the weight log(p / (1 − p)): of all ways to weigh independent voters
between two answers this one is right most often (Nitzan and Paroush, International Economic Review 23, 1982). Between
many answers one that is mostly wrong is worth hearing too, and nothing is measured so well that it is sure; so p is
clipped.
"""

from __future__ import annotations

import math
from statistics import fmean

from fathom.costs import Costed, Costs
from fathom.planning.outlook import candidate_of
from fathom.planning.profile import kept_profile
from fathom.reasoner import Session
from fathom.search.ensemble import WEIGHERS, Weighed

__all__ = ["by_profile", "log_odds"]

LEAST, MOST = 0.525, 0.975
"""Between these no vote is worth more than 37 others."""


def log_odds(accuracies: list[float]) -> tuple[float, ...]:
    """The weights of voters who are so often right, scaled to a mean of 1."""
    odds = [math.log(p / (1.0 - p)) for p in (min(MOST, max(LEAST, accuracy)) for accuracy in accuracies)]
    return tuple(x / fmean(odds) for x in odds)


def by_profile(session: Session, depth: int | None) -> Weighed:
    """Weights by the accuracy of a single sample of each member at this depth, from the profiles that are kept.

    Where one has none, all are equal, since nobody knows how it compares; a note says so.
    """
    told = session.costs if isinstance(session, Costed) else (Costs(session.label),)
    found = [kept_profile(costs) if costs is not None else None for costs in told]
    unknown = [costs.model if costs else "an absent one" for costs, its in zip(told, found, strict=True) if its is None]
    if unknown:
        note = f"all models have equal votes, since there is no profile of {', '.join(unknown)}: `fathom calibrate`"
        return Weighed((1.0,) * len(told), (note,))
    accuracies = []
    for costs, its in zip(told, found, strict=True):
        assert costs is not None, "it has a profile"
        candidate = candidate_of(costs, its)
        accuracies.append(candidate.ability.accuracy(1, candidate.place(depth)))
    weights = log_odds(accuracies)
    datasets = sorted({its.profile.dataset for its in found if its is not None})
    notes = [f"profiles of different questions were compared: {', '.join(datasets)}"] if len(datasets) > 1 else []
    return Weighed(weights, tuple(notes))


WEIGHERS["profile"] = by_profile
