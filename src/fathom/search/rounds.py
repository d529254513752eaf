"""The part that searches share which go in rounds: what is to grow is planned, grown as there is room, and when all of
a round is over the next one is planned from what came of it."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
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
        self.asked: dict[int, Grow] = {}  # with which an id was planned last, perhaps with others
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
        self.planned.append(grow)
        self.pending.update(grow.ids)
        self.asked |= dict.fromkeys(grow.ids, grow)

    def allowed(self, n: int) -> int:
        """How many of ``n`` new attempts the limit on all of them allows."""
        return n if self.most is None else max(0, min(n, self.most - self.started))

    def afresh(self, n: int, sources: Sequence[int] = (), feedback: str = "") -> tuple[int, ...]:
        """Plan ``n`` new attempts, as far as the limit on all of them allows; their ids."""
        ids = self.new_ids(self.allowed(n))
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

    def _begun(self, room: int) -> list[Grow]:
        """What is planned, as far as there is room."""
        begun: list[Grow] = []
        while room > 0 and self.planned:
            grow = self.planned.popleft()
            if len(grow.ids) > room:
                self.planned.appendleft(replace(grow, ids=grow.ids[room:]))
                grow = replace(grow, ids=grow.ids[:room])
            begun.append(grow)
            room -= len(grow.ids)
        return begun

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
            held_back = groupby(lost.ids, key=self.asked.__getitem__)
            self.planned.extendleft(reversed([replace(grow, ids=tuple(ids)) for grow, ids in held_back]))
