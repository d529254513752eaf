"""Sequential Monte Carlo over reasoning steps (particle filtering, arXiv 2502.01618): lines of thought are particles,
and the judge's score of one is its potential ψ. They approximate the model's own distribution, weighted by ψ.

A step multiplies a particle's weight by ψ(now) / ψ(before), so that in the end it is weighted by its last potential
alone, and not by the product of all. Where the effective sample size 1/Σp² falls under a share of the particles, they
are resampled systematically. Finished particles take part in it unchanged. Weights are kept unnormalised: their mean is
an unbiased estimate of E[ψ] under the model, and weighted sums over answers are so of E[ψ · 1(answer)].

``anneal`` is entropic annealing (arXiv 2510.05825), against too early belief in one line of thought: when the effective
size has fallen, resampling goes by weights to the power of 1/T, T = (n / effective size) · (1 − progress), at least 1.
So it is the flatter the fewer carry the weight, and comes back to the weights themselves towards the end. The paper
forgets what annealing held back; here it stays in the weights, so that the estimates remain unbiased. Its second
part, look-ahead modulation, weighs a step by what one more would score: that takes a further step of every particle,
to be thrown away, and is left out."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fathom.errors import SpecError
from fathom.judges.votes import Tally
from fathom.search.base import STRATEGIES, Standing, Terms
from fathom.search.trees import TreeSearch, TreeStrategy
from fathom.specs import option

__all__ = ["Particles", "annealed", "effective_size", "log_sum", "systematic"]

FLOOR = 1e-9
"""The least potential: a particle of score 0 can still be all that there is."""


def log_sum(logs: Sequence[float]) -> float:
    """log Σ exp(x), stable."""
    top = max(logs)
    return top + math.log(math.fsum(math.exp(x - top) for x in logs))


def effective_size(log_weights: Sequence[float]) -> float:
    """The effective sample size 1 / Σp² of weights that need not be normalised, from 1 to their number."""
    total = log_sum(log_weights)
    return 1.0 / math.fsum(math.exp(2 * (w - total)) for w in log_weights)


def systematic(log_weights: Sequence[float], offset: float) -> list[int]:
    """How often each of n particles is drawn: n points, ``offset`` in [0, 1) apart from the grid, on the summed shares.

    Each is drawn ⌊n·p⌋ or ⌈n·p⌉ times, and n·p times on average over offsets.
    """
    n, top = len(log_weights), max(log_weights)
    sums = list(itertools.accumulate(math.exp(w - top) for w in log_weights))
    whole = sums[-1]  # all points lie below it, whatever rounding makes of the last of them
    upto = [n if part == whole else math.ceil(n * part / whole - offset) for part in sums]
    return [after - before for before, after in itertools.pairwise([0, *upto])]


def annealed(log_weights: Sequence[float], progress: float) -> list[float]:
    """The logs of the weights to the power of 1/T, T = max(1, n / effective size · (1 − progress)).

    ``progress`` in [0, 1] says how much of the way is behind.
    """
    heat = len(log_weights) / effective_size(log_weights) * (1 - progress)
    return [w / max(1.0, heat) for w in log_weights]


@STRATEGIES.register("particles", source="arXiv 2502.01618, 2510.05825")
@dataclass(frozen=True)
class Particles(TreeStrategy):
    """Sequential Monte Carlo: lines of thought weighted by their scores and resampled when few carry the weight."""

    ess: float = option(0.5, "resample when the effective sample size falls under this share of the particles")
    anneal: bool = option(False, "resample less sharply the fewer carry the weight, early on (entropic annealing)")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.ess <= 1.0:
            raise SpecError(f"particles(ess=…) must lie between 0 and 1, not {self.ess!r}")

    def begin(self, terms: Terms) -> ParticlesSearch:
        return ParticlesSearch(self, terms).take(terms.drafts)


class ParticlesSearch(TreeSearch):
    """The running filter. ``population`` has the scored particles as (id, log weight), copies repeatedly."""

    def __init__(self, said: Particles, terms: Terms) -> None:
        super().__init__(said, terms)
        self.population: list[tuple[int, float]] = []
        self._ess, self._anneal, self._votes = said.ess, said.anneal, said.select == "vote"
        self._start: dict[int | None, float] = {None: 0.0}  # log weight with which children begin, by parent
        self._copies: dict[int, int] = {}
        self._rng = random.Random(terms.seed)

    def enter(self, id: int, score: float) -> None:
        gained = self._potential(score)
        if id in self.scores:  # a step that was made to conclude
            gained -= self._potential(self.scores[id])
            mine = [w for particle, w in self.population if particle == id]
            mine = mine or [self._start[id]] * self._copies[id]
            self.population = [entry for entry in self.population if entry[0] != id]
            self.population += [(id, w + gained) for w in mine]
        else:
            parent = self.parents.get(id)
            before = 0.0 if parent is None else self._potential(self.scores[parent])
            self.population.append((id, self._start[parent] + gained - before))
        super().enter(id, score)

    def _potential(self, score: float) -> float:
        return math.log(max(score, FLOOR))

    @property
    def log_evidence(self) -> float:
        """The logarithm of the estimate of E[ψ], complete when all particles have ended."""
        return log_sum([w for _, w in self.population]) - math.log(self.width)

    def choose(self, level: Sequence[int], ended: Sequence[int]) -> Iterable[tuple[int, int]]:
        self.population.sort()
        if effective_size([w for _, w in self.population]) < self._ess * len(self.population):
            self._resample()
        open_ = set(level)
        self._copies = {}
        for id, w in self.population:
            if id in open_:
                self._copies[id] = self._copies.get(id, 0) + 1
                self._start[id] = w
        self.population = [entry for entry in self.population if entry[0] not in open_]
        return self._copies.items()

    def _resample(self) -> None:
        """Draw as many particles as there are. Each copy carries w / (n·q), q being the share that it was drawn by."""
        weights = [w for _, w in self.population]
        drawn_by = annealed(weights, self.steps / self.said.steps) if self._anneal else weights
        base = log_sum(drawn_by) - math.log(len(weights))
        counts = systematic(drawn_by, self._rng.random())
        after: list[tuple[int, float]] = []
        for (id, w), by, count in zip(self.population, drawn_by, counts, strict=True):
            after += [(id, w - by + base)] * count
        self.population = after

    @property
    def standing(self) -> Standing:
        self._recount()
        return super().standing

    def _recount(self) -> None:
        """The tally of the particles that ended, by weight, scaled so that the whole population has one vote each."""
        self.tally = Tally()
        if not self.population:
            return
        scale = math.log(len(self.population)) - log_sum([w for _, w in self.population])
        for id, w in sorted(self.population):
            if id in self._final:
                weight = self.weight(self.verdicts[id]) if self._votes and id in self.verdicts else math.exp(w + scale)
                self.count(self.trajectories[id], weight, self.scores[id])
