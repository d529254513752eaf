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

__all__ = ["Range", "Scatter", "Shape", "rolling", "scatter"]

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
    chance that it ends after n + 1 trajectories; empty, all are drawn. ``racing`` has others run until then, whose
    units are spent too; ``grows`` has one more run at a time with each that has ended."""

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
    racing: bool = False
    grows: bool = False


@dataclass(frozen=True, slots=True)
class Scatter:
    """How something comes out over many plays: the mean, and the 10th and the 90th percentile."""

    mean: float
    range: Range

    @classmethod
    def of(cls, values: Sequence[float]) -> Scatter:
        ranked = sorted(values)
        return cls(math.fsum(ranked) / len(ranked), (ranked[len(ranked) // 10], ranked[-1 - len(ranked) // 10]))


def scatter(shape: Shape, step: Callable[[int], float], pace: float) -> tuple[Scatter, Scatter]:
    """How seconds and units come out. ``step`` is the time of one unit at a width; ``pace`` the standard deviation of
    the logarithm of real over predicted pace. The same shape gives the same figures."""
    rng = random.Random(0)
    plays = [_play(shape, step, rng) for _ in range(PLAYS)]
    seconds = [taken * math.exp(rng.gauss(0.0, pace)) for taken, _ in plays]
    return Scatter.of(seconds), Scatter.of([units for _, units in plays])


def _play(shape: Shape, step: Callable[[int], float], rng: random.Random) -> tuple[float, float]:
    """Seconds and units of one play."""
    until = rng.choices(range(1, len(shape.draws) + 1), shape.draws)[0] if shape.draws else shape.width
    n = shape.width if shape.racing else until
    median = shape.median * math.exp(shape.differ * _student(shape.freedom, rng))
    lengths = [min(shape.cap, median * math.exp(rng.gauss(0.0, shape.spread))) for _ in range(n)]
    cut = sum(length >= shape.cap for length in lengths[:until])
    stated = [max(0.0, rng.gauss(shape.stating, ABOUT_MEAN * shape.wording)) if cut else 0.0 for _ in range(n)]
    waiting = [length + stating * (length >= shape.cap) for length, stating in zip(lengths, stated, strict=True)]
    seconds, units = rolling(waiting, shape.wave, step, grows=shape.grows, until=until)
    return shape.first + shape.reading * cut + seconds, units


def _student(freedom: float, rng: random.Random) -> float:
    """How far the next one comes out, in standard deviations that were estimated together with the mean."""
    drawn = rng.gauss(0.0, 1.0)
    if math.isinf(freedom):
        return drawn
    return drawn * math.sqrt((1.0 + 1.0 / (freedom + 1.0)) / rng.gammavariate(freedom / 2, 2 / freedom))


def rolling(
    lengths: Sequence[float],
    wave: int,
    step: Callable[[int], float],
    *,
    grows: bool = False,
    until: int | None = None,
) -> tuple[float, float]:
    """Seconds and units that trajectories of these lengths take, ``wave`` at a time: as one ends, the next begins, and
    each step lasts as long as those that still go make it.

    ``grows`` has one more at a time with each that has ended. ``until`` so many have ended (default: all); then those
    that still go have had their units in vain.
    """
    until = len(lengths) if until is None else until
    waiting = list(reversed(lengths))
    going: list[tuple[float, float]] = []  # when each ends and when it began, in units
    seconds = units = now = 0.0
    for ended in range(min(until, len(lengths))):
        while waiting and len(going) < wave + ended * grows:
            heapq.heappush(going, (now + waiting.pop(), now))
        running = len(going)
        end, began = heapq.heappop(going)
        seconds += (end - now) * step(running)
        units += end - began
        now = end
    return seconds, units + math.fsum(now - began for _, began in going)
