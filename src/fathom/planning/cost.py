"""The cost model: what so many trajectories of such a depth take in seconds, tokens, memory, calls and dollars.

Trajectories do not all come to their end at once. Their lengths are taken to be log-normal with the usual one as mean,
those on one question around a median of its own, and a wave of them is timed step by step, each step as long as those
still going make it: the time of a step grows with its width, and by how much was measured (``engines/pace.py``) or
fitted from samples of real runs. Work goes in a rolling wave: as one trajectory ends, the next begins.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from fathom.costs import Costs
from fathom.planning.scatter import Range, Shape, rolling, scatter
from fathom.search.driver import CAUTION

__all__ = ["CostModel", "Prediction", "Sample", "fitted"]

PACE_SPREAD = 0.1
"""The standard deviation of the logarithm of real over predicted pace, before runs have shown it: a quiet machine's."""

UNCAPPED = 1024
"""Units that a trajectory without a limit of its own may take."""

_NORMAL = statistics.NormalDist()
_NEARLY_ALL = _NORMAL.inv_cdf(0.95)  # of the trajectories that have no limit of their own are to come to their end


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a plan takes. ``seconds`` is None where no time is known, ``dollars`` where no price is.

    ``tokens`` are expected; ``most`` holds, by the names of a budget's limits, what has to be there for it to be begun.
    ``seconds_range`` and ``tokens_range`` are what nine runs of ten exceed and what nine of ten stay below, where they
    were asked for.
    """

    seconds: float | None
    tokens: float
    dollars: float | None
    most: Mapping[str, float]
    seconds_range: Range | None = None
    tokens_range: Range | None = None

    def within(self, limits: Mapping[str, float]) -> bool:
        """Whether it stays within all limits. What is not known (seconds, dollars) stays within none that is set."""
        return all(self.most.get(name, math.inf) <= limit for name, limit in limits.items())

    def held(self, limits: Mapping[str, float]) -> Prediction:
        """The same for a run that is ended by these limits, if it comes to that."""

        def cut(found: Range | None, name: str) -> Range | None:
            limit = limits.get(name, math.inf)
            return None if found is None else (min(found[0], limit), min(found[1], limit))

        return replace(
            self,
            seconds_range=cut(self.seconds_range, "seconds"),
            tokens_range=cut(self.tokens_range, "tokens"),
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """A trajectory that was run, ``width`` of them together, to this ``depth``, in ``seconds`` from its start."""

    width: int
    depth: int
    seconds: float


class CostModel:
    """Costs of one model. ``drag`` is how much longer things take than ``costs.unit_seconds`` says, ``pace_spread`` how
    far that was off on earlier runs (the standard deviation of its logarithm)."""

    def __init__(self, costs: Costs, drag: float = 1.0, pace_spread: float = PACE_SPREAD) -> None:
        self.costs = costs
        self.drag = drag
        self.pace_spread = pace_spread
        self._steps: dict[int, float] = {}

    @property
    def timed(self) -> bool:
        """Whether anything is known of time."""
        return bool(self.costs.unit_seconds)

    def finished(self, depth: float | None) -> float:
        """The share of trajectories that come to their own end within ``depth`` units."""
        if depth is None:
            return 1.0
        return _NORMAL.cdf(math.log(depth / self._median) / max(self._spread, 1e-3)) if depth > 0 else 0.0

    @property
    def _spread(self) -> float:
        """Of lengths over all questions."""
        return math.hypot(self.costs.spread, self.costs.differ)

    @property
    def _median(self) -> float:
        """Of lengths over all questions: that of the log-normal with the usual length as mean."""
        return max(1.0, self.costs.depth) * math.exp(-(self._spread**2) / 2)

    def mean_depth(self, depth: int | None) -> float:
        """Units that a trajectory takes on average, cut at ``depth``."""
        return _mean(16, self._median, self._spread, self._cap(depth))

    def beyond(self, reached: float) -> float:
        """Units that a trajectory takes on average that has come to ``reached`` and goes on."""
        spread = max(self._spread, 1e-3)
        at = math.log(max(reached, 1.0) / self._median) / spread
        above = _NORMAL.cdf(-at)
        if above < 1e-6:  # so far beyond the usual that nothing is known of it
            return reached
        return max(reached, self._median * math.exp(spread**2 / 2) * _NORMAL.cdf(spread - at) / above)

    def _cap(self, depth: int | None) -> int:
        most = self.costs.most_depth or UNCAPPED
        return most if depth is None else min(depth, most)

    def predict(self, width: int, depth: int | None, wave: int, draws: float | None = None) -> Prediction:
        """``width`` trajectories of at most ``depth`` units, ``wave`` at a time, of which ``draws`` are really made."""
        costs, cap = self.costs, self._cap(depth)
        wave = max(1, min(wave, width))
        draws = float(width) if draws is None else min(draws, float(width))
        unfinished = 1.0 - self.finished(cap if depth is not None else None)
        each = self.mean_depth(depth) if cap else 0.0
        tokens = costs.unit_tokens * (each + unfinished * costs.answer_units)
        most_tokens = math.ceil(cap * costs.unit_tokens) + costs.answer_tokens
        most: dict[str, float] = {
            "width": width,
            "depth": 0 if cap == 0 else cap if depth is not None else min(cap, math.ceil(costs.depth)),
            "tokens": width * most_tokens,
            "calls": width * ((cap > 0) + (costs.answer_tokens > 0)),
            "memory_bytes": wave * (costs.base_bytes + costs.unit_bytes * (costs.prompt_tokens + cap)),
        }
        dollars = None
        if costs.price is not None:
            dollars = costs.price.cost(round(costs.prompt_tokens * draws), round(tokens * draws))
            most["cost"] = costs.price.cost(costs.prompt_tokens * width, width * most_tokens)
        seconds = None
        if self.timed:
            seconds = self._seconds(draws, depth, min(wave, math.ceil(draws)), unfinished)
            whole = min(cap, math.ceil(self._median * math.exp(_NEARLY_ALL * self._spread))) if depth is None else depth
            most["seconds"] = self._seconds(width, whole, wave, unfinished, sure=True)
        return Prediction(seconds, tokens * draws, dollars, most)

    def expect(
        self,
        width: int,
        depth: int | None,
        wave: int,
        draws: Sequence[float] = (),
        *,
        racing: bool = False,
        grows: bool = False,
    ) -> Prediction:
        """What ``predict`` says, and how far it may be off. ``draws[n]`` is the chance that n + 1 are really made;
        empty, all are. ``racing``: until so many are over others run beside them. ``grows``: with each that is over one
        more runs at a time."""
        made = math.fsum(share * n for n, share in enumerate(draws, 1)) / math.fsum(draws) if draws else None
        expected, costs, cap = self.predict(width, depth, wave, made), self.costs, self._cap(depth)
        shape = Shape(
            width=width,
            wave=max(1, min(wave, width)),
            median=self._median,
            spread=costs.spread,
            differ=costs.differ,
            freedom=costs.freedom,
            cap=cap,
            stating=costs.answer_units,
            wording=costs.answer_spread,
            reading=self.drag * costs.answer_read,
            first=self.drag * costs.read_seconds,
            draws=tuple(draws),
            racing=racing,
            grows=grows,
        )
        seconds, units = scatter(shape, self.paced, self.pace_spread)
        tokens = math.floor(costs.unit_tokens * units.range[0]), math.ceil(costs.unit_tokens * units.range[1])
        if racing:  # the mean of what is ended by one of several is no sum of means
            played = costs.unit_tokens * units.mean
            expected = replace(expected, seconds=seconds.mean if self.timed else None, tokens=played)
        return replace(
            expected,
            seconds_range=seconds.range if self.timed else None,
            tokens_range=tokens if costs.unit_tokens else None,
        )

    def paced(self, width: int) -> float:
        """Seconds of a step at this width, as things are now; 0 where nothing is known."""
        return self.drag * self._step(width) if self.timed else 0.0

    def _seconds(self, n: float, depth: int | None, wave: int, unfinished: float, *, sure: bool = False) -> float:
        """A full wave to its last end, and what comes before it at the rate of a full wave. ``sure`` counts the last
        trajectory as long as it may become, all of a wave as still unfinished at the end, and as much time for their
        answers as the driver will hold back: what it cuts sooner is another plan."""
        costs, median = self.costs, self._median
        total = costs.read_seconds
        if cap := self._cap(depth):
            total += cap * self._step(wave) if sure else self._wave(_lengths(wave, median, costs.spread, cap))
            total += max(0.0, n / wave - 1.0) * _mean(wave, median, costs.spread, cap) * self._step(wave)
            if unfinished > 0.02 and costs.answer_units:
                total += self._held(wave, n) if sure else self._stating(math.ceil(max(1.0, wave * unfinished)))
        elif costs.answer_units:
            total += rolling([costs.answer_units] * math.ceil(n), wave, self._step)[0] + costs.answer_read * n
        return self.drag * total

    def _stating(self, width: int) -> float:
        """Seconds for the answers of so many trajectories that were cut."""
        costs = self.costs
        return (1.0 + costs.answer_units) * self._step(width) + costs.answer_read * width  # a step may be under way

    def _held(self, wave: int, n: float) -> float:
        """Seconds that are held back for the answers of a wave, the last one of n trajectories."""
        costs = self.costs
        held = costs.held_units * self._step(wave) + costs.held_read * wave
        return max(held * (CAUTION if n <= wave else 1.0), self._stating(wave))

    def _step(self, width: int) -> float:
        if width not in self._steps:
            self._steps[width] = self.costs.step(width)
        return self._steps[width]

    def _wave(self, lengths: Sequence[float]) -> float:
        """Seconds until the last of a wave has ended, each step as long as those still going make it."""
        total, before = 0.0, 0.0
        for ended, length in enumerate(lengths):
            total += (length - before) * self._step(len(lengths) - ended)
            before = length
        return total


@lru_cache(maxsize=4096)
def _lengths(n: int, median: float, spread: float, cap: int) -> tuple[float, ...]:
    """Lengths of n trajectories in ascending order, none beyond the cap: order statistics by Blom's approximation."""
    at = (_NORMAL.inv_cdf((i + 0.625) / (n + 0.25)) for i in range(n))
    return tuple(min(float(cap), median * math.exp(spread * z)) for z in at)


@lru_cache(maxsize=4096)
def _mean(n: int, median: float, spread: float, cap: int) -> float:
    return statistics.fmean(_lengths(n, median, spread, cap))


def fitted(costs: Costs, samples: Sequence[Sample]) -> Costs:
    """Costs with the times that samples of real runs tell: per width the median seconds of a unit, and the usual depth.

    The time before the first unit is the intercept of the Theil-Sen line (medians of pairwise slopes) through the
    samples of the width that has most of them; one wild sample moves none of these.
    """
    by_width: dict[int, list[Sample]] = {}
    for sample in samples:
        if sample.depth > 0 and sample.seconds > 0:
            by_width.setdefault(sample.width, []).append(sample)
    if not by_width:
        return costs
    read = max(0.0, _intercept(max(by_width.values(), key=len)))
    each = {
        width: max(1e-9, statistics.median((s.seconds - min(read, s.seconds / 2)) / s.depth for s in group))
        for width, group in sorted(by_width.items())
    }
    depth = statistics.median(s.depth for group in by_width.values() for s in group)
    return replace(costs, unit_seconds=each, read_seconds=read, depth=depth)


def _intercept(samples: Sequence[Sample]) -> float:
    slopes = [
        (b.seconds - a.seconds) / (b.depth - a.depth)
        for i, a in enumerate(samples[:200])
        for b in samples[i + 1 : 200]
        if a.depth != b.depth
    ]
    if not slopes:
        return 0.0
    slope = statistics.median(slopes)
    return statistics.median(s.seconds - slope * s.depth for s in samples)
