"""The part that searches share which go in rounds: what is to grow is planned, grown as there is room, and when all of
a round is over the next one is planned from what came of it."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from fathom.judges.base import Verdict, Verifier
from fathom.records import Trajectory
from fathom.search.base import Action, Grow, Lost
from fathom.search.judged import JudgedSearch

__all__ = ["RoundSearch"]


class RoundSearch(JudgedSearch):
    """Rounds of attempts, ``most`` in all; each is over when it is judged, or gave no answer, or was lost."""

    def __init__(self, judge: Verifier | None, depth: int | None, most: int | None = None) -> None:
        super().__init__(judge, 0, depth)
        self.most = most
        self.planned: deque[Grow] = deque()
        self.asked: dict[int, Grow] = {}
        self.pending: set[int] = set()  # of this round, not over yet

    @abstractmethod
    def plan_round(self) -> None:
        """Plan what comes next, or nothing at the end. Called first of all, and whenever a round is over."""

    def take(self, drafts: Sequence[Trajectory]) -> Self:
        if self.most is not None:
            self.most += len(drafts)
        return super().take(drafts)

    def plan(self, grow: Grow) -> None:
        """Grow this as soon as there is room."""
        self.planned.extend(replace(grow, ids=(id,)) for id in grow.ids)
        self.pending.update(grow.ids)

    def afresh(self, n: int, sources: Sequence[int] = (), feedback: str = "") -> tuple[int, ...]:
        """Plan ``n`` new attempts, as far as the limit on all of them allows; their ids."""
        if self.most is not None:
            n = min(n, self.most - self.started)
        ids = self.new_ids(max(0, n))
        self.started += len(ids)
        if ids:
            self.plan(Grow(ids, units=self.depth, sources=tuple(sources), feedback=feedback))
        return ids

    def ask(self, room: int) -> Sequence[Action]:
        if self.stopped is not None:
            return ()
        if not self.pending and not self.winding_down:
            self.plan_round()
        actions = self.backlog.drain()
        if not self.winding_down:
            actions += self._begun(room)
        return actions

    def _begun(self, room: int) -> list[Action]:
        """What is planned, as far as there is room; equal attempts are asked for together."""
        begun: list[Grow] = []
        for _ in range(min(room, len(self.planned))):
            grow = self.planned.popleft()
            self.asked[grow.ids[0]] = grow
            if begun and grow.parent is None and replace(begun[-1], ids=grow.ids) == grow:
                grow = replace(grow, ids=(*begun.pop().ids, *grow.ids))
            begun.append(grow)
        return list(begun)

    def settle(self, trajectory: Trajectory) -> None:
        super().settle(trajectory)
        if trajectory.answer is None:
            self.pending.discard(trajectory.id)
        elif self.judge is not None:
            self.pending.add(trajectory.id)  # drafts of an earlier search, too, are waited for

    def tell_verdict(self, id: int, verdict: Verdict) -> None:
        super().tell_verdict(id, verdict)
        self.pending.discard(id)

    def tell_lost(self, lost: Lost) -> None:
        if lost.error:
            super().tell_lost(lost)
            self.pending.difference_update(lost.ids)
        else:  # a limit left nothing for them now; there may be room again when others end
            self.planned.extendleft(self.asked[id] for id in reversed(lost.ids))
