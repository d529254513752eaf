"""Models in order of cost: the next one is asked only where the one before was not confident enough (FrugalGPT,
arXiv 2305.05176; by agreement, as in arXiv 2310.03094). One ladder of models serves a short deadline and a long one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fathom.errors import SpecError
from fathom.records import StopReason, Trajectory
from fathom.search.base import STRATEGIES, Action, Drop, Grow, Lost, Search, Standing, Strategy, Terms
from fathom.search.vote import Vote
from fathom.specs import option

__all__ = ["Cascade"]


@STRATEGIES.register("cascade", source="arXiv 2305.05176, 2310.03094")
@dataclass(frozen=True)
class Cascade(Strategy):
    """Models in order of cost, each voting; the next is asked only while the ones before are not confident enough."""

    models: tuple[str, ...] = option(
        (), "names or URIs of the further models, cheapest first; the run's own is the first"
    )
    confident: float = option(0.75, "the confidence of a vote that ends the cascade")
    width: int | None = option(None, "samples of each model at most (default: the budget's width, else 16)")
    depth: int | None = option(None, "units of reasoning for each at most; 0 answers at once")

    def __post_init__(self) -> None:
        if not self.models:
            raise SpecError("cascade needs the option 'models', e.g. cascade(models=[qwen2.5-coder-1.5b])")
        if not 0 < self.confident <= 1:
            raise SpecError(f"cascade(confident=…) must lie between 0 and 1, not {self.confident!r}")

    def begin(self, terms: Terms) -> CascadeSearch:
        return CascadeSearch(self, terms)


class CascadeSearch(Search):
    """A vote per model, one after another; the standing is that of the last model that has one."""

    def __init__(self, said: Cascade, terms: Terms) -> None:
        super().__init__()
        self.said = said
        self.vote = Vote(width=said.width, depth=said.depth)
        self.terms = terms
        self.rungs = [self.vote.begin(terms)]
        self.rungs[0].trajectories = self.trajectories
        self.rung_of: dict[int, int] = {}

    @property
    def _top(self) -> int:
        return len(self.rungs) - 1

    def ask(self, room: int) -> Sequence[Action]:
        actions = self._asked(room)
        if not actions and self._is_over() and not self.winding_down and self._top < len(self.said.models):
            if self.rungs[-1].standing.confidence >= self.said.confident:
                self.stopped = StopReason.DECIDED
                return ()
            late = tuple(id for id, rung in self.rung_of.items() if rung == self._top and id not in self.trajectories)
            self._climb()
            actions = [Drop(late), *self._asked(room)] if late else self._asked(room)
        return actions

    def _climb(self) -> None:
        below, above = self.rungs[-1], self.vote.begin(self.terms)
        above.trajectories, above._next_id = self.trajectories, below._next_id
        self.rungs.append(above)

    def _asked(self, room: int) -> list[Action]:
        actions = list(self.rungs[-1].ask(room))
        for index, action in enumerate(actions):
            if isinstance(action, Grow):
                self.rung_of |= dict.fromkeys(action.ids, self._top)
                actions[index] = Grow(action.ids, units=action.units, greedy=action.greedy, member=self._top)
        return actions

    def _is_over(self) -> bool:
        rung = self.rungs[-1]
        return rung.stopped is not None or (rung.started == rung.width and rung.remaining <= 0)

    def tell(self, trajectory: Trajectory) -> None:
        self.trajectories[trajectory.id] = trajectory
        if self.rung_of[trajectory.id] == self._top:
            self.rungs[-1].tell(trajectory)

    def tell_lost(self, lost: Lost) -> None:
        super().tell_lost(lost)
        for id in lost.ids:
            self.rungs[self.rung_of[id]].tell_lost(Lost((id,), lost.error))

    def wind_down(self) -> None:
        super().wind_down()
        self.rungs[-1].wind_down()

    @property
    def standing(self) -> Standing:
        return next((s for rung in reversed(self.rungs) if (s := rung.standing).answer is not None), Standing())
