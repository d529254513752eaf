"""Several models answer, and their answers vote together: different models err alike less often than one does. Who is
right more often may have the weightier vote, by numbers of the caller's or by what was measured of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal

from fathom.budget import Meter
from fathom.errors import SpecError
from fathom.reasoner import Session
from fathom.records import Trajectory
from fathom.search.base import STRATEGIES, Action, Grow, Strategy, Terms
from fathom.search.samples import SampleSearch, agreed_width
from fathom.specs import option

__all__ = ["WEIGHERS", "Ensemble", "Weighed"]


@dataclass(frozen=True)
class Weighed:
    """The weight of a vote of each member, the run's own model first, and what a person should know of them."""

    weights: tuple[float, ...]
    notes: tuple[str, ...] = ()


WEIGHERS: dict[str, Callable[[Session, int | None], Weighed]] = {}
"""Who weighs the members of a session at a depth, by the word that asks for it. Those who plan fill it."""


@STRATEGIES.register("ensemble", source="plurality over models; weights after Nitzan and Paroush, 1982")
@dataclass(frozen=True)
class Ensemble(Strategy):
    """Several models answer and vote together, weighted or equal; one that fails costs its votes only."""

    models: tuple[str, ...] = option((), "names or URIs of the further models; the run's own model is the first")
    weights: tuple[float, ...] | Literal["profile"] = option(
        (),
        "the weight of a vote of each model, the run's own first, or profile: the log odds of the accuracy measured by "
        "`fathom calibrate` (default: equal)",
    )
    width: int | None = option(None, "samples at most, of all models together (default: the budget's width, else 16)")
    depth: int | None = option(None, "units of reasoning for each at most; 0 answers at once")

    def __post_init__(self) -> None:
        if not self.models:
            raise SpecError("ensemble needs the option 'models', e.g. ensemble(models=[qwen2.5-coder-1.5b])")
        weights = () if self.weights == "profile" else self.weights
        if weights and (len(weights) != len(self.models) + 1 or not all(0 <= w < math.inf for w in weights)):
            raise SpecError(
                f"ensemble(weights=…) must have {len(self.models) + 1} numbers that are not negative, one for the "
                f"run's own model and one for each further one, not {list(weights)}"
            )

    def scout(self, session: Session, meter: Meter) -> Weighed | None:
        if self.weights != "profile":
            return None
        STRATEGIES.load()
        depth = self.depth if self.depth is not None else meter.limits.get("depth")
        return WEIGHERS[self.weights](session, None if depth is None else int(depth))

    def begin(self, terms: Terms) -> EnsembleSearch:
        depth = self.depth if self.depth is not None else terms.depth
        given = self.weights if self.weights != "profile" else ()
        return EnsembleSearch(agreed_width(self.width, terms), depth, given or (1.0,) * (len(self.models) + 1))


class EnsembleSearch(SampleSearch):
    """Samples go to the models in turn."""

    def __init__(self, width: int, depth: int | None, weights: Sequence[float]) -> None:
        super().__init__(width, depth)
        self.weights = tuple(weights)
        self.member_of: dict[int, int] = {}
        self.told: tuple[str, ...] = ()  # of the weights

    def brief(self, found: Weighed | None) -> None:
        if found is not None:
            self.weights, self.told = found.weights, found.notes

    @property
    def notes(self) -> tuple[str, ...]:
        return (*super().notes, *self.told)

    def ask(self, room: int) -> Sequence[Action]:
        actions: list[Action] = []
        for action in super().ask(room):
            actions += self._dealt(action) if isinstance(action, Grow) else [action]
        return actions

    def _dealt(self, grow: Grow) -> list[Action]:
        members = islice(cycle(range(len(self.weights))), grow.ids[0] % len(self.weights), None)
        dealt = dict(zip(grow.ids, members, strict=False))
        self.member_of |= dealt
        return [
            Grow(ids, units=grow.units, member=member)
            for member in range(len(self.weights))
            if (ids := tuple(id for id in grow.ids if dealt[id] == member))
        ]

    def settle(self, trajectory: Trajectory) -> None:
        self.count(trajectory, self.weights[self.member_of[trajectory.id]])
