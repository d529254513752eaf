"""An estimate and its interval: what figures of the lab, of plans and of recursive models are told as."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

__all__ = ["Interval", "wilson"]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its interval, of 95 % where nothing else was asked for."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """In percent: ``62.5% [48.2%, 75.0%]``."""
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}]"

    @property
    def signed(self) -> str:
        """As a difference, in percent points: ``+2.5% [-1.0%, +6.0%]``."""
        return f"{self.value:+.1%} [{self.low:+.1%}, {self.high:+.1%}]"


def wilson(successes: float, n: float, level: float = 0.95) -> Interval:
    """A share with Wilson's score interval. Of nothing at all it says nothing: NaN in [0, 1]."""
    if n == 0:
        return Interval(math.nan, 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, spread = successes / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return Interval(share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))
