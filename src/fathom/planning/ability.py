"""What a model can do with a kind of question: how its answers fall without reasoning, with all of it, and between."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from fathom.intervals import wilson
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
    """Populations of questions by the share of chains that come to their own end, ascending from 0 to 1.

    Between two of them accuracy is interpolated. It rests on so many ``questions``, of the named ``source``. ``others``
    are strategies beyond voting that were measured. ``measured`` is False for what is only assumed: then ``undecided``
    is what votes are read by, so that a low guess of a model's worth is no reason to give up a close vote.
    """

    populations: tuple[tuple[float, Population], ...]
    questions: int
    source: str
    measured: bool = True
    others: tuple[Measured, ...] = ()
    undecided: Population | None = None

    def population(self, finished: float) -> Population:
        """By which votes are read: the one whose share of finished chains is nearest; of two as near the later one."""
        if self.undecided is not None:
            return self.undecided
        return min(self.populations, key=lambda at: (abs(at[0] - finished), -at[0]))[1]

    def accuracy(self, width: int, finished: float, *, verified: bool = False) -> float:
        """The expected accuracy of a vote of ``width``, or of that many attempts before a verifier."""
        points = [(at, p.coverage(width) if verified else p.accuracy(width)) for at, p in self.populations]
        for (low, below), (high, above) in itertools.pairwise(points):
            if finished <= high:
                share = (finished - low) / (high - low) if finished > low else 0.0
                return below + share * (above - below)
        return points[-1][1]

    def interval(self, accuracy: float) -> tuple[float, float]:
        """Wilson's 95 % interval, as if so many questions had been seen."""
        found = wilson(accuracy * self.questions, self.questions)
        return found.low, found.high
