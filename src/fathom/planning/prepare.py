"""Plans for a model that is at hand, and for a person who asks: what would ``auto`` run, and what would come of it?"""

from __future__ import annotations

from dataclasses import replace

from fathom.budget import Budget, Meter
from fathom.errors import CapabilityError
from fathom.planning.outlook import survey
from fathom.planning.plan import Plan, plan
from fathom.planning.probing import probe
from fathom.reasoner import Reasoner
from fathom.records import Problem
from fathom.search.base import Strategy

__all__ = ["plan_for"]

USUAL = "A shop has 34 boxes of 26 pens and sells 15 of the pens. How many pens are left?"
"""A question of usual length, where none is given."""


async def plan_for(
    model: Reasoner,
    budget: Budget,
    *,
    prompt: str | None = None,
    strategy: Strategy | None = None,
    profile: str | None = None,
    queue_seconds: float = 0.0,
) -> Plan:
    """What ``auto`` would begin with on this model within this budget, for a question of usual length or this one.

    ``strategy`` is an Auto with options of its own, a judge for instance; where it has none, it asks as a run would.
    Nothing is generated. Raises what opening a session raises: a deadline in which not even the prompt can be read is
    refused.
    """
    from fathom.api import strategy_of
    from fathom.planning.auto import Auto

    said = strategy_of(strategy if isinstance(strategy, Auto) else None, model=model)
    assert isinstance(said, Auto), "it is the default"
    if missing := said.required - model.capabilities:
        raise CapabilityError(f"auto needs {', '.join(sorted(missing))} here, which {model.name} does not offer")
    meter = Meter(budget)
    session = await model.open(Problem.of(prompt if prompt is not None else getattr(model, "usual", USUAL)), meter)
    try:
        outlook = survey(session, Meter(budget), profile or said.profile)
    finally:
        await session.aclose()
    limits = {**budget.limits(), **{k: v for k, v in (("width", said.width), ("depth", said.depth)) if v is not None}}
    members = sorted(outlook.candidates)
    found = plan(
        [outlook.candidates[member] for member in members],
        limits,
        selection=said.selection,
        queue_seconds=queue_seconds,
        worth=said.worth,
    )
    notes = (*found.notes, *outlook.notes)
    if len(members) > 1 and said.judge is None:
        best = replace(found.choice, member=members[found.choice.member])
        if (first := probe(outlook.candidates, best, limits, worth=said.worth)) is not None:
            notes = (f"first {first.width} samples of {first.model}: if they all agree, that is the answer", *notes)
    return Plan(found.choice, found.runners_up, budget.limits(), found.fits, notes)
