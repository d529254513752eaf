"""What a model can do with a kind of question: how its answers fall without reasoning, with all of it, and between."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from dataclasses import dataclass

from fathom.intervals import wilson
from fathom.planning.cost import CostModel
from fathom.planning.population import Population

__all__ = ["Ability", "Measured"]


@dataclass(frozen=True, slots=True)
class Measured:
    """A point of a strategy's curve: its ``accuracy`` at this width and depth, and what it took on average.

    ``strategy`` is the whole spec, with its width and depth.
    """

    strategy: str
    width: int
    depth: int | None
    accuracy: float
    low: float
    high: float
    tokens: float
    seconds: float | None = None


@dataclass(frozen=True)
class Ability:
    """Populations of questions by their *place*, ascending from 0, the least reasoning, to 1, all of it.

    Between two of them accuracy is interpolated. What was measured at certain ``depths`` (ascending; infinite is the
    chains' own end), while chains took ``usual`` units on average, has its populations in even places, one a depth.
    Without these a place is the share of chains that come to their own end. It rests on so many ``questions``, of the
    named ``source``. ``others`` are strategies beyond voting that were measured. ``measured`` is False for what is only
    assumed: then ``undecided`` is what votes are read by, so that a low guess of a model's worth is no reason to give
    up a close vote.
    """

    populations: tuple[tuple[float, Population], ...]
    questions: int
    source: str
    measured: bool = True
    others: tuple[Measured, ...] = ()
    undecided: Population | None = None
    depths: tuple[float, ...] = ()
    usual: float = 0.0

    def place(self, depth: int | None, cost: CostModel) -> float:
        """Where a depth stands (None: the chains' own end), chains being as long as ``cost`` says.

        The depths that were measured stand where their populations do, whatever the lengths scatter by; one between two
        of them as the share of chains that end before it does between theirs. Chains that are twice as long are as far
        at twice the depth.
        """
        if not self.depths:
            return cost.finished(depth)
        at = math.inf if depth is None else float(depth)
        longer = cost.costs.depth / self.usual
        known = [d * longer for d in self.depths]
        after = bisect_right(known, at)
        if after in (0, len(known)):
            return float(after > 0)
        low, high = known[after - 1], known[after]
        ended, least, most = (cost.finished(None if math.isinf(d) else d) for d in (at, low, high))
        if most - least <= 1e-6:  # then by depth itself, where there is an end to it
            ended, least, most = at, low, high
        return (after - 1 + (ended - least) / (most - least)) / (len(known) - 1)

    def population(self, place: float) -> Population:
        """By which votes are read: the one whose place is nearest; of two as near the later one."""
        if self.undecided is not None:
            return self.undecided
        return min(self.populations, key=lambda at: (abs(at[0] - place), -at[0]))[1]

    def accuracy(self, width: int, place: float, *, verified: bool = False, greedy: bool = False) -> float:
        """The expected accuracy of a vote of ``width``, ``greedy`` if the likeliest line of thought is the first of
        them, or of that many attempts before a verifier."""
        points = [
            (at, p.coverage(width) if verified else p.accuracy(width, greedy=greedy)) for at, p in self.populations
        ]
        for (low, below), (high, above) in itertools.pairwise(points):
            if place <= high:
                share = (place - low) / (high - low) if place > low else 0.0
                return below + share * (above - below)
        return points[-1][1]

    def interval(self, accuracy: float) -> tuple[float, float]:
        """Wilson's 95 % interval, as if so many questions had been seen."""
        found = wilson(accuracy * self.questions, self.questions)
        return found.low, found.high
