"""How far a plan may come out from what is expected of it: the seconds and tokens that one run in ten stays below, and
that one in ten exceeds.

Nobody knows beforehand how long a chain of thought becomes, so the time of a single one cannot be predicted well; how
widely it scatters can be. The plan is played a few hundred times, with lengths drawn as the cost model says they fall,
and with the pace of the machine off by as much as it was on earlier runs.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Range", "Shape", "rolling", "scatter"]

PLAYS = 300
ABOUT_MEAN = math.sqrt(math.pi / 2)
"""The standard deviation of what is normal, over the mean distance from its mean."""
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Shape:
    """What is played: up to ``width`` trajectories, ``wave`` at a time, ``first`` seconds after the start. Lengths lie
    around ``median``; the standard deviation of their logarithm is ``spread`` on one question, and ``differ`` that of
    the questions' own medians, known with so many degrees of ``freedom``. Each is cut at ``cap``, and one that is takes
    ``stating`` further units, ``wording`` more or less on average, after ``reading`` seconds. ``draws[n]`` is the
    chance that it ends after n + 1 trajectories; empty, all are drawn."""

    width: int
    wave: int
    median: float
    spread: float
    differ: float
    freedom: float
    cap: int
    stating: float
    wording: float
    reading: float
    first: float
    draws: tuple[float, ...] = ()


def scatter(shape: Shape, step: Callable[[int], float], pace: float) -> tuple[Range, Range]:
    """The 10th and 90th percentiles of seconds and of units. ``step`` is the time of one at a width; ``pace`` the
    standard deviation of the logarithm of real over predicted pace. The same shape gives the same figures."""
    rng = random.Random(0)
    plays = [_play(shape, step, rng) for _ in range(PLAYS)]
    seconds = [taken * math.exp(rng.gauss(0.0, pace)) for taken, _ in plays]
    return _middle(seconds), _middle([units for _, units in plays])


def _middle(values: Sequence[float]) -> Range:
    ranked = sorted(values)
    return ranked[len(ranked) // 10], ranked[-1 - len(ranked) // 10]


def _play(shape: Shape, step: Callable[[int], float], rng: random.Random) -> tuple[float, float]:
    """Seconds and units of one play."""
    n = rng.choices(range(1, len(shape.draws) + 1), shape.draws)[0] if shape.draws else shape.width
    median = shape.median * math.exp(shape.differ * _student(shape.freedom, rng))
    lengths = [min(shape.cap, median * math.exp(rng.gauss(0.0, shape.spread))) for _ in range(n)]
    cut = sum(length >= shape.cap for length in lengths)
    stated = [max(0.0, rng.gauss(shape.stating, ABOUT_MEAN * shape.wording)) if cut else 0.0 for _ in range(n)]
    waiting = [length + stating * (length >= shape.cap) for length, stating in zip(lengths, stated, strict=True)]
    return shape.first + shape.reading * cut + rolling(waiting, shape.wave, step), math.fsum(waiting)


def _student(freedom: float, rng: random.Random) -> float:
    """How far the next one comes out, in standard deviations that were estimated together with the mean."""
    drawn = rng.gauss(0.0, 1.0)
    if math.isinf(freedom):
        return drawn
    return drawn * math.sqrt((1.0 + 1.0 / (freedom + 1.0)) / rng.gammavariate(freedom / 2, 2 / freedom))


def rolling(lengths: Sequence[float], wave: int, step: Callable[[int], float]) -> float:
    """Seconds that trajectories of these lengths take, ``wave`` at a time: as one ends, the next begins, and each step
    lasts as long as those that still go make it."""
    ends, waiting = list(lengths[:wave]), list(reversed(lengths[wave:]))
    heapq.heapify(ends)
    seconds = now = 0.0
    while ends:
        end = heapq.heappop(ends)
        seconds += (end - now) * step(len(ends) + 1)
        now = end
        if waiting:
            heapq.heappush(ends, now + waiting.pop())
    return seconds
