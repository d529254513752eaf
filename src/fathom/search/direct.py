"""One trajectory, drawn greedily: the model's plain answer, and the baseline of every comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fathom.reasoner import Capability
from fathom.records import Trajectory
from fathom.search.base import STRATEGIES, Strategy, Terms
from fathom.search.samples import SampleSearch
from fathom.specs import option

__all__ = ["Direct"]


@STRATEGIES.register("direct", source="greedy decoding")
@dataclass(frozen=True)
class Direct(Strategy):
    """One trajectory, greedy: the model's plain answer."""

    depth: int | None = option(None, "units of reasoning at most; 0 answers at once")
    at_least: int = option(0, "units of reasoning at least: go on when the model would stop (s1, arXiv 2501.19393)")

    @property
    def wants(self) -> frozenset[Capability]:
        return frozenset({Capability.LOGPROBS})

    def begin(self, terms: Terms) -> DirectSearch:
        return DirectSearch(1, self.depth if self.depth is not None else terms.depth, self.at_least, greedy=True)


class DirectSearch(SampleSearch):
    """A single trajectory."""

    def settle(self, trajectory: Trajectory) -> None:
        self.count(trajectory)

    @property
    def confidence(self) -> float:
        """The mean probability of a generated token where the engine tells it, else as for one vote."""
        for id in self.settled:
            logprob = self.trajectories[id].mean_logprob
            if logprob is not None:
                return math.exp(logprob)
        return super().confidence
