"""Successive halving (arXiv 1502.07943) over lines of thought: all start, at every rung the worse half is dropped, and
what it saved deepens the rest. Every rung costs the same: as the width halves, the units for each double."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from fathom.judges.base import Verdict, Verifier
from fathom.judges.registry import judge_option
from fathom.reasoner import Capability
from fathom.records import Trajectory
from fathom.search.base import STRATEGIES, Action, Drop, Grow, Lost, Standing, Strategy, Terms, at_least
from fathom.search.judged import own_verdict, refuse_comparing
from fathom.search.rounds import RoundSearch
from fathom.search.samples import agreed_width
from fathom.specs import option

__all__ = ["Halving"]


@STRATEGIES.register("halving", source="successive halving, arXiv 1502.07943")
@dataclass(frozen=True)
class Halving(Strategy):
    """All start; at every rung the worse half is dropped, and what it saved deepens the rest.

    It starts afresh: it has no use for drafts.
    """

    width: int | None = option(None, "lines of thought at the start (default: the budget's width, else 16)")
    units: int = option(32, "units of reasoning of each up to the first rung; twice as many up to the next, and so on")
    judge: Verifier | None = judge_option(None, "who scores them at the rungs (default: their mean log-probability)")
    final: Literal["best", "vote"] = option("best", "what decides: the best of the last standing, or a weighted vote")
    depth: int | None = option(None, "units of reasoning for each at most")

    def __post_init__(self) -> None:
        at_least("halving", 1, units=self.units)
        refuse_comparing("halving", self.judge)

    @property
    def required(self) -> frozenset[Capability]:
        own = Capability.CONTINUE, *(() if self.judge is not None else (Capability.LOGPROBS,))
        return super().required | frozenset(own)

    def begin(self, terms: Terms) -> HalvingSearch:
        depth = self.depth if self.depth is not None else terms.depth
        return HalvingSearch(self, agreed_width(self.width, terms), depth)


@dataclass
class _Rung:
    """The lines of thought that are still in it: those that can go on, and those that came to their end."""

    live: list[int] = field(default_factory=list)
    over: list[int] = field(default_factory=list)


class HalvingSearch(RoundSearch):
    """The running search. One that came to its end early competes, with its final score, at all later rungs."""

    def __init__(self, said: Halving, wide: int, depth: int | None) -> None:
        super().__init__(said.judge, depth, wide)
        self.said = said
        self.wide = wide
        self.rung = _Rung()
        self.scores: dict[int, float] = {}  # of what is unfinished, at its last rung
        self.dropped: set[int] = set()
        self._at_rung: set[int] = set()  # their verdicts are still out
        self._drop: list[int] = []

    def ask(self, room: int) -> list[Action]:
        actions = list(super().ask(room))
        if self._drop:
            actions.insert(0, Drop(tuple(self._drop)))
            self._drop = []
        return actions

    @property
    def at_rest(self) -> int:
        return len(self._resting)

    @property
    def _resting(self) -> list[int]:
        """What is unfinished and does not grow now."""
        waiting = [*self.rung.live, *self._at_rung, *(id for grow in self.planned for id in grow.ids)]
        return [id for id in waiting if id in self.trajectories and id not in self._asked_to_conclude]

    def plan_round(self) -> None:
        if not self.started:
            units = self._within_depth(0, self.said.units)
            self.started = self.wide
            self.plan(Grow(self.new_ids(self.wide), units=units))
            return
        alone = len(self.rung.live) + len(self.rung.over) == 1
        if not alone:
            self._halve()
        if not self.rung.live:
            return
        units = self.wide * self.said.units // len(self.rung.live)
        live, self.rung.live = self.rung.live, []
        for id in live:
            more = self._within_depth(self.trajectories[id].depth, units)
            if alone or more == 0:
                self._conclude(id)
            else:
                self.plan(Grow((id,), parent=id, units=more))

    def _within_depth(self, depth: int, units: int) -> int:
        return units if self.depth is None else max(0, min(units, self.depth - depth))

    def _halve(self) -> None:
        """Keep the better half, at least one; the rest is out."""
        field = sorted([*self.rung.live, *self.rung.over], key=lambda id: (self._score(id), -id), reverse=True)
        kept = set(field[: max(1, len(field) // 2)])
        self._drop += [id for id in self.rung.live if id not in kept]
        self.dropped.update(id for id in field if id not in kept)
        self.rung = _Rung([id for id in self.rung.live if id in kept], [id for id in self.rung.over if id in kept])

    def _score(self, id: int) -> float:
        verdict = self.verdicts.get(id)
        return verdict.score if verdict is not None else self.scores[id]

    def _conclude(self, id: int) -> None:
        self.pending.add(id)
        self._asked_to_conclude.add(id)
        self.backlog.conclude.append(id)

    def tell(self, trajectory: Trajectory) -> None:
        id = trajectory.id
        if id in self._asked_to_conclude or not self._can_go_on(trajectory):
            super().tell(trajectory)
            return
        self.trajectories[id] = trajectory
        if self.judge is not None:
            self._at_rung.add(id)
            self.backlog.judge.append(id)
        else:
            self._reach_rung(id, own_verdict(trajectory))

    def _can_go_on(self, trajectory: Trajectory) -> bool:
        """Whether it only came to the end of its units. One that got fewer than it asked for met a limit of its own."""
        grow = self.asked[trajectory.id]
        before = self.trajectories[grow.parent].depth if grow.parent is not None else 0
        full = grow.units is not None and trajectory.depth - before >= grow.units > 0
        return full and not trajectory.finished and trajectory.answer is None and not self.winding_down

    def _reach_rung(self, id: int, verdict: Verdict) -> None:
        self.note(verdict)
        self.scores[id] = verdict.score
        self.pending.discard(id)
        if not self.winding_down:
            self.rung.live.append(id)

    def settle(self, trajectory: Trajectory) -> None:
        if trajectory.answer is not None:
            self.rung.over.append(trajectory.id)
        super().settle(trajectory)

    def tell_verdict(self, id: int, verdict: Verdict) -> None:
        if id in self._at_rung:
            self._at_rung.discard(id)
            self._reach_rung(id, verdict)
        else:
            super().tell_verdict(id, verdict)

    def tell_lost(self, lost: Lost) -> None:
        super().tell_lost(lost)
        if self.winding_down:
            self._conclude_the_resting()

    def wind_down(self) -> None:
        super().wind_down()
        self._conclude_the_resting()

    def _conclude_the_resting(self) -> None:
        for id in self._resting:
            self._conclude(id)
        self.rung.live = []

    def weight(self, verdict: Verdict) -> float:
        return verdict.score if self.said.final == "vote" else 1.0

    def worth(self, id: int) -> tuple[Any, ...]:
        return (id not in self.dropped, *super().worth(id))

    @property
    def standing(self) -> Standing:
        voted = self.said.final == "vote" and not any(verdict.passed for verdict in self.verdicts.values())
        return self.tallied if voted and len(self.tally) else super().standing
