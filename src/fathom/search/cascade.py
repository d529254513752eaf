"""Models in order of cost: the next one is asked only where the one before was not confident enough (FrugalGPT,
arXiv 2305.05176; by agreement, as in arXiv 2310.03094). One ladder of models serves a short deadline and a long one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fathom.errors import SpecError
from fathom.records import StopReason, Trajectory
from fathom.search.base import STRATEGIES, Action, Drop, Grow, Lost, Strategy, Terms
from fathom.search.samples import SampleSearch
from fathom.search.staged import StagedSearch
from fathom.search.vote import Vote
from fathom.specs import option

__all__ = ["Cascade"]


@STRATEGIES.register("cascade", source="arXiv 2305.05176, 2310.03094")
@dataclass(frozen=True)
class Cascade(Strategy):
    """Models in order of cost, each voting; the next is asked only while the ones before are not confident enough.

    It starts afresh: it has no use for drafts.
    """

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


class CascadeSearch(StagedSearch[SampleSearch]):
    """A vote per model, one after another. Of a limit on samples each gets an even share of what is left, so that there
    is something for all; what one does not use is left to those after it."""

    def __init__(self, said: Cascade, terms: Terms) -> None:
        self.said = said
        self.vote = Vote(width=said.width, depth=said.depth)
        self.terms = terms
        super().__init__(self._vote(0, terms.width))
        self.member_of: dict[int, int] = {}

    def _vote(self, nth: int, left: int | None) -> SampleSearch:
        share = left if left is None else max(1, left // (len(self.said.models) + 1 - nth))
        return self.vote.begin(replace(self.terms, width=share, drafts=()))

    def stage(self, nth: int) -> SampleSearch:
        return self._vote(nth, self.terms.width)

    @property
    def _top(self) -> int:
        return len(self.stages) - 1

    def ask(self, room: int) -> Sequence[Action]:
        actions = self._asked(room)
        if actions or self.winding_down or not self._is_over or self._top == len(self.said.models):
            return actions
        if self.now.standing.confidence >= self.said.confident:
            self.stopped = StopReason.DECIDED
            return ()
        left = None if self.terms.width is None else self.terms.width - len(self.member_of)
        if left is not None and left < 1:
            return ()
        late = tuple(id for id, at in self.member_of.items() if at == self._top and id not in self.trajectories)
        self.go_on(self._vote(self._top + 1, left))
        return [Drop(late), *self._asked(room)] if late else self._asked(room)

    def _asked(self, room: int) -> list[Action]:
        actions = list(self.now.ask(room))
        for index, action in enumerate(actions):
            if isinstance(action, Grow):
                self.member_of |= dict.fromkeys(action.ids, self._top)
                actions[index] = replace(action, member=self._top)
        return actions

    @property
    def _is_over(self) -> bool:
        vote = self.now
        return vote.stopped is not None or (vote.started == vote.width and vote.remaining <= 0)

    def tell(self, trajectory: Trajectory) -> None:
        self.trajectories[trajectory.id] = trajectory
        if self.member_of[trajectory.id] == self._top:
            self.now.tell(trajectory)

    def tell_lost(self, lost: Lost) -> None:
        super().tell_lost(lost)
        for id in lost.ids:
            self.stages[self.member_of[id]].tell_lost(Lost((id,), lost.error))
