"""Self-Refine (arXiv 2303.17651) with verification (arXiv 2309.11495): draft, verify, feed the finding back, revise.

The judge may be any verifier: tests that run, rules, the same model or a second one. It is always the best attempt so
far that is revised, and the best one that is returned: never one that the judge scored lower than an earlier draft. It
ends when the judge accepts an answer, when a round changes no answer, or after ``rounds``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from fathom.judges.base import Verifier
from fathom.judges.registry import judge_option
from fathom.reasoner import Capability
from fathom.records import StopReason, Trajectory
from fathom.search.base import STRATEGIES, Strategy, Terms, at_least
from fathom.search.judged import refuse_comparing
from fathom.search.rounds import RoundSearch
from fathom.search.samples import agreed_width
from fathom.specs import option

__all__ = ["Refine"]


@STRATEGIES.register("refine", source="arXiv 2303.17651, 2309.11495")
@dataclass(frozen=True)
class Refine(Strategy):
    """Draft, verify, feed the finding back and revise, until verified or nothing changes any more.

    Drafts of an earlier search are verified, and the best of them revised.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.REVISE})

    rounds: int = option(4, "rounds of revisions at most")
    width: int = option(1, "drafts, and revisions in each round: of the best attempts so far")
    judge: Verifier | None = judge_option(None, "who verifies (default: nobody; the model checks its attempt itself)")
    depth: int | None = option(None, "units of reasoning for each attempt at most")

    def __post_init__(self) -> None:
        at_least("refine", 1, rounds=self.rounds)
        refuse_comparing("refine", self.judge)

    def begin(self, terms: Terms) -> RefineSearch:
        depth = self.depth if self.depth is not None else terms.depth
        return RefineSearch(self, agreed_width(self.width, terms), depth, terms.width).take(terms.drafts)


class RefineSearch(RoundSearch):
    """The running search. Without a judge the latest revision is taken for the best."""

    def __init__(self, said: Refine, wide: int, depth: int | None, most: int | None) -> None:
        super().__init__(said.judge, depth, most)
        self.rounds = said.rounds
        self.wide = wide
        self.round = 0
        self.source_of: dict[int, int] = {}
        self.revisions: tuple[int, ...] = ()
        self.leaders: list[int] = []  # the best attempts with different answers, as many as are revised in a round
        self.ranked = 0  # so many of those that are over were compared with them
        self.ranks: dict[int, int] = {}  # of an earlier search's answers, the best one first

    def take(self, drafts: Sequence[Trajectory]) -> Self:
        self.ranks = {draft.id: rank for rank, draft in enumerate(drafts)}
        return super().take(drafts)

    def plan_round(self) -> None:
        if self._changed_nothing():
            self.stopped = StopReason.CONVERGED
            return
        if self.started and self.round >= self.rounds:
            return
        sources = self._lead()
        self.round += self.started > 0
        if not sources:
            self.afresh(self.wide)
            return
        wide = self.allowed(self.wide)
        for rank, source in enumerate(sources):  # the better ones get what does not go evenly
            times = len(range(rank, wide, len(sources)))
            self.source_of |= dict.fromkeys(self.afresh(times, (source,), self.finding(source)), source)
        self.revisions = tuple(sorted(self.pending))

    def _changed_nothing(self) -> bool:
        """Whether every revision of the last round gave the answer of what it revised."""
        stated = [t for id in self.revisions if (t := self.trajectories.get(id)) is not None and t.answer is not None]
        return bool(stated) and all(t.key == self.trajectories[self.source_of[t.id]].key for t in stated)

    def _lead(self) -> list[int]:
        """The leaders, now that a round is over."""
        new = [id for id in self.settled[self.ranked :] if self.trajectories[id].answer is not None]
        self.ranked = len(self.settled)
        best: dict[str, int] = {}
        for id in sorted([*self.leaders, *new], key=self.worth, reverse=True):
            best.setdefault(self.trajectories[id].key, id)
        self.leaders = list(best.values())[: self.wide]
        return self.leaders

    def settle(self, trajectory: Trajectory) -> None:
        if self.judge is not None:
            super().settle(trajectory)
            return
        self.count(trajectory)
        self.pending.discard(trajectory.id)

    def worth(self, id: int) -> tuple[Any, ...]:
        """Accepted, then the score; of equals a finished one, then the latest revision, or the first of the drafts."""
        verdict = self.verdicts.get(id)
        judged = (False, False, 0.0) if verdict is None else (True, verdict.passed is True, verdict.score)
        order = (True, id) if id in self.source_of else (False, -self.ranks.get(id, id))
        return (*judged, self.trajectories[id].finished, *order)

    def certainty(self, best: int) -> float:
        return self.confidence if self.judge is None else super().certainty(best)
