"""What a plan is made from, gathered before a run begins: the session's account of its costs, what was learned of them
from live traffic, the profile where there is one and priors where there is none, and what is left of the budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fathom.budget import Meter
from fathom.costs import Costed, Costs
from fathom.errors import UsageError
from fathom.planning.cost import CostModel
from fathom.planning.learned import Length, learned, remember
from fathom.planning.plan import Candidate
from fathom.planning.prior import prior
from fathom.planning.profile import Fitted, fit, kept_profile, load
from fathom.reasoner import Session

__all__ = ["Outlook", "candidate_of", "survey"]

_ENOUGH = 3  # runs after which what was learned goes before what is assumed
_OWN = 11  # degrees of freedom after which a model's own account of lengths goes before what was learned: 8 questions
_ANY = 4  # degrees of freedom of an account that has seen a question


@dataclass(frozen=True)
class Outlook:
    """The models that may be asked, by the number of the member that each is, and the limits they stand under."""

    candidates: Mapping[int, Candidate]
    limits: Mapping[str, float]
    notes: tuple[str, ...] = ()


def survey(session: Session, meter: Meter, profile: str | None = None) -> Outlook:
    """Look at a session that is open, before anything is spent. ``profile`` names a file.

    Raises InputError for a profile that cannot be read, UsageError for one that belongs to none of the models.
    """
    told = session.costs if isinstance(session, Costed) else (Costs(session.label),)
    given = None if profile is None else load(profile)
    candidates: dict[int, Candidate] = {}
    notes: list[str] = []
    refused: list[UsageError] = []
    for member, costs in enumerate(told):
        if costs is None:
            continue
        found = kept_profile(costs)
        if given is not None:
            try:
                found = fit(given, costs)
            except UsageError as error:
                refused.append(error)
        before = candidates[max(candidates)] if candidates else None
        candidates[member] = candidate_of(costs, found, before)
        notes += found.notes if found is not None else ()
    if given is not None and len(refused) == len(candidates):
        raise refused[0] if refused else UsageError(f"the profile {profile} belongs to no model that could be opened")
    limits = {**meter.remaining, **{k: v for k, v in meter.limits.items() if k == "depth"}}
    return Outlook(candidates, limits, tuple(notes))


def candidate_of(costs: Costs, found: Fitted | None, before: Candidate | None = None) -> Candidate:
    """A model as plans see it, from its session's account, what was learned of it, and its profile where it has one.

    ``before`` is the one that stands before it in a ladder. Where no question was put to this one yet, its trajectories
    are taken to be as long as the other's: else what was seen of one would make the other look cheap, or dear.
    """
    earlier = learned(costs.model, costs.engine)
    known = earlier.over(costs.unit_seconds)
    usual = known.lengths.get(costs.kind, Length())
    if known is not earlier:
        remember(costs.model, costs.engine, known)
    if found is not None:
        costs = found.profile.costs(costs, same_machine=found.same_machine)
        costs = replace(costs, depth=found.profile.depth)
    elif usual.runs >= _ENOUGH and not _OWN <= costs.freedom < math.inf:
        costs = replace(costs, depth=usual.units)
    elif before is not None and costs.freedom < _ANY and not usual.runs:
        costs = replace(costs, depth=before.cost.costs.depth)
    if not costs.unit_seconds and known.unit_seconds:
        costs = replace(costs, unit_seconds=known.unit_seconds)
    drag = costs.drag if costs.drag is not None else known.drag  # as things are now goes before how they mostly were
    ability = found.profile.ability if found is not None else prior(costs, before.ability if before else None)
    return Candidate(CostModel(costs, drag, known.pace_spread), ability)
