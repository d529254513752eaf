"""Intervals for the benchmark tables: Wilson for a share, bootstrap over questions for paired differences."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

Z = 1.959964


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share."""
    if n == 0:
        return 0.0, 1.0
    share, spread = successes / n, Z * Z / n
    middle = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return middle - half, middle + half


def paired(differences: Sequence[float], resamples: int = 5000) -> tuple[float, float, float]:
    """The mean of per-question differences with its 95 % percentile bootstrap interval over questions."""
    rng = random.Random(0)
    n = len(differences)
    means = sorted(sum(rng.choices(differences, k=n)) / n for _ in range(resamples))
    return sum(differences) / n, means[int(0.025 * resamples)], means[int(0.975 * resamples)]


def share(successes: int, n: int) -> str:
    """A share with its interval, in percent."""
    low, high = wilson(successes, n)
    return f"{successes / n:6.1%}  [{low:.1%}, {high:.1%}]"
