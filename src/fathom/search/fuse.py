"""Recursive self-aggregation (RSA, arXiv 2509.26626; mixture of agents, arXiv 2406.04692): a population of attempts,
and rounds in which each new attempt sees a few of the round before, drawn at random, and is to combine what is right in
them. The last round votes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from fathom.judges.votes import Tally
from fathom.reasoner import Capability
from fathom.records import StopReason, Trajectory
from fathom.search.base import STRATEGIES, Standing, Strategy, Terms, at_least
from fathom.search.rounds import RoundSearch
from fathom.search.samples import agreed_width
from fathom.specs import option

__all__ = ["Fuse"]


@STRATEGIES.register("fuse", source="arXiv 2509.26626, 2406.04692")
@dataclass(frozen=True)
class Fuse(Strategy):
    """Rounds in which each attempt combines a few earlier ones; the last round votes.

    Drafts of an earlier search are the first of the population. Where the budget limits the number of trajectories, the
    population is made so small that all rounds fit.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.REVISE})

    width: int | None = option(None, "attempts in each round (default: 8, or what the budget's width allows)")
    k: int = option(3, "how many of the round before each attempt combines")
    rounds: int = option(2, "rounds of combining, after the first population")
    depth: int | None = option(None, "units of reasoning for each attempt at most")

    def __post_init__(self) -> None:
        at_least("fuse", 1, k=self.k, rounds=self.rounds)

    def begin(self, terms: Terms) -> FuseSearch:
        width = agreed_width(self.width if self.width is not None else min(8, terms.max_width or 8), terms)
        if terms.width is not None:
            width = min(width, max(1, terms.width // (self.rounds + 1)))
        depth = self.depth if self.depth is not None else terms.depth
        return FuseSearch(self, width, depth, terms).take(terms.drafts)


class FuseSearch(RoundSearch):
    """The running search. While a round is unfinished, the one before votes with the share that is missing."""

    def __init__(self, said: Fuse, wide: int, depth: int | None, terms: Terms) -> None:
        super().__init__(None, depth, terms.width)
        self.k = said.k
        self.rounds = said.rounds
        self.wide = wide
        self.generations: list[tuple[int, ...]] = []
        self.random = random.Random(terms.seed)

    def take(self, drafts: Sequence[Trajectory]) -> Self:
        super().take(drafts)
        if drafts:
            self.generations.append(tuple(draft.id for draft in drafts))
        return self

    def plan_round(self) -> None:
        if not self.generations:
            self.generations.append(self.afresh(self.wide))
        elif len(self.generations) == 1 and (short := self.wide - len(self.generations[0])) > 0:
            self.generations[0] += self.afresh(short)
        elif self._agree():
            self.stopped = StopReason.CONVERGED
        elif len(self.generations) <= self.rounds:
            self._combine()

    def _agree(self) -> bool:
        """Whether all of the last round gave one answer, so that there is nothing to combine."""
        keys = {self.trajectories[id].key for id in self.generations[-1] if id in self.trajectories}
        return len(keys) == 1 and len(self._stated(self.generations[-1])) == len(self.generations[-1]) > 1

    def _stated(self, ids: Sequence[int]) -> list[int]:
        return [id for id in ids if id in self.trajectories and self.trajectories[id].answer is not None]

    def _combine(self) -> None:
        """Plan a round; where one brought nothing, that before it is combined once more."""
        stated = next((ids for generation in reversed(self.generations) if (ids := self._stated(generation))), [])
        planned: list[int] = []
        for _ in range(self.wide):
            sources = self.random.sample(stated, min(self.k, len(stated)))
            planned += self.afresh(1, sources)
        self.generations.append(tuple(planned))

    def settle(self, trajectory: Trajectory) -> None:
        self.pending.discard(trajectory.id)

    @property
    def standing(self) -> Standing:
        self._recount()
        return self.tallied

    def _recount(self) -> None:
        self.tally, self._whole = Tally(), {}
        over, share = set(self.settled), 1.0
        for generation in reversed(self.generations):
            there = [id for id in generation if id in over]
            for id in there:
                self.count(self.trajectories[id], share)
            share *= 1 - len(there) / max(1, len(generation))
            if share <= 0:
                break
