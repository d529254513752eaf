"""What inference compute is worth in model size: several models' sweeps on the same questions, against one cost.

Every (model, strategy, width) is a point; the *frontier* are the points that no cheaper one beats. The *exchange rate*
of a smaller model against a larger one is how many times its own greedy answer's compute it needs to be right as often
as the larger one's greedy answer; the interval comes from bootstrapping the questions, with the whole search for the
cheapest sufficient point done again on each resample. Where no point suffices, it says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fathom.errors import UsageError
from fathom.lab.pool import Pool, load_all
from fathom.lab.scoring import Point, baselines, default_strategies, score
from fathom.lab.statistics import RESAMPLES, FloatArray, Interval, mean_intervals
from fathom.lab.summary import dollars_of, flops_of, seconds_of

__all__ = ["COSTS", "Contender", "Exchange", "Mark", "contenders", "exchange", "frontier"]

COSTS: Mapping[str, Callable[[Pool, Point], FloatArray]] = {
    "flops": flops_of,
    "seconds": seconds_of,
    "dollars": dollars_of,
}
"""What a question may cost, and how it is found."""
REACHED = 0.9
"""The share of resamples in which a smaller model must reach a larger one for a rate to be stated."""


@dataclass(frozen=True, eq=False)
class Contender:
    """One model's pools, one for each depth, and all their points: (the pool, the point) pairs. The oracle is none."""

    name: str
    parameters: float
    pools: tuple[Pool, ...]
    points: tuple[tuple[Pool, Point], ...]

    @property
    def greedy(self) -> tuple[Pool, Point]:
        """The plain answer, at the largest depth."""
        return next((pool, point) for pool, point in self.points[::-1] if point.strategy == "greedy")


@dataclass(frozen=True, slots=True)
class Mark:
    """A point on the plane of cost and accuracy. ``on_frontier``: no point costs less and is right as often."""

    model: str
    strategy: str
    width: int
    depth: int | None
    cost: float
    accuracy: Interval
    on_frontier: bool


@dataclass(frozen=True, slots=True)
class Exchange:
    """How many times the cost of its own greedy answer ``smaller`` needs to match the greedy answer of ``larger``.

    ``rate`` is None where it never does within the range; ``reached`` is the share of resamples in which it does.
    ``to_larger`` is the same cost over that of the larger model's greedy answer: above 1, size is cheaper. ``by`` is
    the strategy that does it most cheaply. ``gap`` is how much less often the smaller one is right, greedy, or by its
    best strategy where that never is enough.
    """

    smaller: str
    larger: str
    cost: str
    rate: Interval | None
    to_larger: float | None
    by: str
    reached: float
    gap: float

    def __str__(self) -> str:
        if self.gap <= 0:
            return f"{self.smaller} is right as often as {self.larger} without more {self.cost}"
        if self.rate is None or self.to_larger is None:
            return (
                f"{self.smaller} never matches the greedy answer of {self.larger} within the range, whatever the "
                f"{self.cost}: its best is {100 * self.gap:.1f} points short of it, and reaches it in "
                f"{self.reached:.0%} of resamples"
            )
        high = f"{self.rate.high:.1f}" if math.isfinite(self.rate.high) else "never"
        return (
            f"{self.smaller} matches the greedy answer of {self.larger} at {self.rate.value:.1f} times "
            f"[{self.rate.low:.1f}, {high}] its own {self.cost}, by {self.by}: {self.to_larger:.2g} times "
            f"what {self.larger} takes"
        )


def contenders(directories: Sequence[Path | str]) -> list[Contender]:
    """The models of these sweeps, smallest first, on the questions that all of them have.

    Raises UsageError where they were not asked the same questions.
    """
    pools = [pool for directory in directories for pool in load_all(directory)]
    names = list(dict.fromkeys(pool.sweep.terms.model for pool in pools))
    datasets = {pool.sweep.terms.dataset for pool in pools}
    if len(datasets) > 1:
        raise UsageError(f"these sweeps are of different questions: {', '.join(sorted(datasets))}; compare one dataset")
    if len(names) < 2:
        raise UsageError(f"a comparison needs sweeps of two models at least, and these are all of {names[0]}")
    shared = set.intersection(*(set(pool.questions) for pool in pools))
    if not shared:
        raise UsageError("no question has been answered by all of these models yet")
    found = []
    for name in names:
        own = [_only(pool, shared) for pool in pools if pool.sweep.terms.model == name]
        points = [
            (pool, p)
            for pool in own
            for p in [*baselines(pool), *score(pool, default_strategies(pool))]
            if p.strategy != "oracle"
        ]
        found.append(Contender(name, own[0].parameters, tuple(own), tuple(points)))
    return sorted(found, key=lambda contender: contender.parameters)


def _only(pool: Pool, questions: set[int]) -> Pool:
    return pool.some([at for at, question in enumerate(pool.questions) if question in questions])


def frontier(found: Sequence[Contender], cost: str) -> list[Mark]:
    """All points of all models under one cost, cheapest first. Points whose cost is unknown are left out."""
    rows = [(c.name, pool, p, float(COSTS[cost](pool, p).mean())) for c in found for pool, p in c.points]
    rows = sorted((row for row in rows if math.isfinite(row[3])), key=lambda row: (row[3], -row[2].right.mean()))
    if not rows:
        return []
    accuracies = mean_intervals(np.stack([p.right for _, _, p, _ in rows], axis=1))
    marks, best = [], -1.0
    for (name, pool, p, spent), accuracy in zip(rows, accuracies, strict=True):
        marks.append(Mark(name, p.strategy, p.width, pool.depth, spent, accuracy, accuracy.value > best))
        best = max(best, accuracy.value)
    return marks


def exchange(
    smaller: Contender, larger: Contender, cost: str, *, resamples: int = RESAMPLES, seed: int = 0
) -> Exchange | None:
    """The exchange rate of two models. None where the cost is unknown for either."""
    names = [f"{p.label}" + ("" if pool.depth is None else f", depth {pool.depth}") for pool, p in smaller.points]
    right = np.stack([p.right for _, p in smaller.points], axis=1)  # (Q, P)
    spent = np.stack([COSTS[cost](pool, p) for pool, p in smaller.points], axis=1)
    own = COSTS[cost](*smaller.greedy)
    pool, plain = larger.greedy
    theirs = COSTS[cost](pool, plain)
    if not (np.isfinite(spent).all() and np.isfinite(theirs).all()):
        return None
    q = len(plain.right)
    drawn = np.random.default_rng(seed).multinomial(q, np.full(q, 1 / q), size=resamples) / q
    every = np.concatenate([np.full((1, q), 1 / q), drawn])  # the questions themselves, then the resamples
    enough = every @ right >= (every @ plain.right)[:, None] - 1e-12
    price = np.where(enough, every @ spent, np.inf)
    rates = price.min(axis=1) / (every @ own)
    reached = float(np.isfinite(rates[1:]).mean())
    gap = float(plain.right.mean() - smaller.greedy[1].right.mean())
    best = int(price[0].argmin())
    if not math.isfinite(rates[0]) or (gap > 0 and reached < REACHED):
        short = float(plain.right.mean() - right.mean(0).max())
        return Exchange(smaller.name, larger.name, cost, None, None, "", reached, max(short, 1e-9))
    low, high = np.quantile(rates[1:], (0.025, 0.975), method="inverted_cdf")
    rate = Interval(float(rates[0]), float(low), float(high))
    return Exchange(
        smaller.name, larger.name, cost, rate, float(price[0, best] / theirs.mean()), names[best], reached, gap
    )
