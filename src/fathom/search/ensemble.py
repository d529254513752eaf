"""Several models answer, and their answers vote together: different models err alike less often than one does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from fathom.errors import SpecError
from fathom.records import Trajectory
from fathom.search.base import STRATEGIES, Action, Grow, Strategy, Terms
from fathom.search.samples import SampleSearch, agreed_width
from fathom.specs import option

__all__ = ["Ensemble"]


@STRATEGIES.register("ensemble", source="plurality over models; weights after Nitzan and Paroush, 1982")
@dataclass(frozen=True)
class Ensemble(Strategy):
    """Several models answer and vote together, weighted or equal; one that fails costs its votes only."""

    models: tuple[str, ...] = option((), "names or URIs of the further models; the run's own model is the first")
    weights: tuple[float, ...] = option((), "the weight of a vote of each model, the run's own first (default: equal)")
    width: int | None = option(None, "samples at most, of all models together (default: the budget's width, else 16)")
    depth: int | None = option(None, "units of reasoning for each at most; 0 answers at once")

    def __post_init__(self) -> None:
        if not self.models:
            raise SpecError("ensemble needs the option 'models', e.g. ensemble(models=[qwen2.5-coder-1.5b])")
        if self.weights and (len(self.weights) != len(self.models) + 1 or not all(w >= 0 for w in self.weights)):
            raise SpecError(
                f"ensemble(weights=…) must have {len(self.models) + 1} numbers that are not negative, one for the "
                f"run's own model and one for each further one, not {list(self.weights)}"
            )

    def begin(self, terms: Terms) -> EnsembleSearch:
        depth = self.depth if self.depth is not None else terms.depth
        return EnsembleSearch(agreed_width(self.width, terms), depth, self.weights or (1.0,) * (len(self.models) + 1))


class EnsembleSearch(SampleSearch):
    """Samples go to the models in turn."""

    def __init__(self, width: int, depth: int | None, weights: Sequence[float]) -> None:
        super().__init__(width, depth)
        self.weights = tuple(weights)
        self.member_of: dict[int, int] = {}

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
