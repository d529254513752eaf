"""Estimates with honest intervals. The unit is always the question: trajectories of one question are not independent.

A share of questions has Wilson's interval; a mean over questions a bootstrap over them, widened for small samples
(Hesterberg, arXiv 1411.5279); two strategies are compared question by question. What is drawn without replacement from
a pool of n trajectories is computed exactly wherever that is cheap: pass@k (Chen et al., arXiv 2107.03374) and the
majority vote at k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.special import comb, stdtrit

from fathom.intervals import Interval, wilson

__all__ = [
    "RESAMPLES",
    "FloatArray",
    "IntArray",
    "Interval",
    "majority_at_k",
    "mean_interval",
    "mean_intervals",
    "paired_difference",
    "pass_at_k",
    "passes_at_k",
    "questions_to_settle",
    "wilson",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

RESAMPLES = 2000
"""Bootstrap resamples behind an interval, where nothing else is said."""


def pass_at_k(n: int, correct: int, k: int) -> float | None:
    """The probability that k of a question's n trajectories, drawn without replacement, hold a right one.

    Unbiased and exact. None where there are fewer than k trajectories: what k would have found is then not known.
    """
    if not 0 <= correct <= n or k < 1:
        raise ValueError(f"pass@{k} of {n} trajectories with {correct} right ones makes no sense")
    if n < k:
        return None
    return 1.0 - math.prod(1.0 - k / i for i in range(n - correct + 1, n + 1))


def passes_at_k(n: IntArray, correct: IntArray, k: int) -> FloatArray:
    """``pass_at_k`` of many questions, (Q,) each; NaN where a question has fewer than k trajectories."""
    found = np.full(len(n), np.nan)
    for size in np.unique(n):
        if size >= k:
            missed = np.cumprod(np.concatenate([[1.0], 1.0 - k / np.arange(size, 0, -1.0)]))  # by number of right ones
            here = n == size
            found[here] = 1.0 - missed[correct[here]]
    return found


def majority_at_k(counts: Sequence[int], right: Sequence[bool], blank: int = 0) -> FloatArray:
    """The probability that the majority answer of k trajectories is right, for every k from 1 to n, (n,), exactly.

    ``counts`` says how many of the question's n trajectories gave each answer, ``right`` which answers are right;
    ``blank`` ones gave none. The k are drawn without replacement, and ties are broken evenly, as they are by the order
    of trajectories that are exchangeable. A draw of blanks only is not right.

    The draws in which an answer has exactly j votes and no other more are counted by a product of polynomials in the
    number drawn; an even share of a tie with t others is 1 / (t + 1), the integral of y^t over [0, 1], which
    Gauss-Legendre quadrature in y gives exactly. O(n²) short products a question at worst.
    """
    n = int(sum(counts)) + blank
    ways, choose = np.zeros(n + 1), _choose(n)
    for i, count in enumerate(counts):
        if not right[i]:
            continue
        others = [c for j, c in enumerate(counts) if j != i]
        for j in range(1, count + 1):
            drawn = _not_outvoted(others, blank, j, choose)
            ways[j : j + len(drawn)] += choose[count, j] * drawn
    return np.clip(ways[1:] / choose[n, 1:], 0.0, 1.0)


@lru_cache(maxsize=8)
def _choose(n: int) -> FloatArray:
    """Binomial coefficients up to n over n, (n + 1, n + 1)."""
    at = np.arange(n + 1.0)
    return np.asarray(comb(at[:, None], at))


@lru_cache(maxsize=256)
def _quadrature(degree: int) -> tuple[tuple[float, float], ...]:
    """Points and weights on [0, 1] that integrate polynomials of that degree exactly (Gauss-Legendre)."""
    nodes, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    return tuple(zip(((nodes + 1) / 2).tolist(), (weights / 2).tolist(), strict=True))


def _not_outvoted(others: Sequence[int], blank: int, j: int, choose: FloatArray) -> FloatArray:
    """Ways to draw m trajectories of other answers, none of them more than j times, each tie at j counted as it is
    shared; by m."""
    few = sum(c for c in others if c < j) + blank  # these cannot reach j, so any draw of them will do
    free: FloatArray = choose[few, : few + 1]
    able = [c for c in others if c >= j]
    if not able:
        return free
    ways = np.zeros(few + j * len(able) + 1)
    for y, weight in _quadrature(len(able)):
        product = free
        for c in able:
            factor = choose[c, : j + 1].copy()
            factor[j] *= y
            product = np.convolve(product, factor)
        ways += weight * product
    return ways


def mean_intervals(
    values: FloatArray, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> list[Interval]:
    """Means over questions of each column of ``values``, (Q, C), with bootstrap intervals over the questions.

    The percentiles are widened to what a t interval of the same size covers ("expanded percentile"). A column of
    nothing but zeros and ones is a share, and has Wilson's interval: the bootstrap of one near 0 or 1 is too narrow.
    Questions with a NaN anywhere are left out of that column. The same resamples serve all columns.
    """
    found: list[Interval] = []
    means: FloatArray | None = None
    whole = bool(np.isfinite(values).all())
    for at in range(values.shape[1]):
        column = values[:, at]
        kept = column if whole else column[np.isfinite(column)]
        if np.isin(kept, (0.0, 1.0)).all():
            found.append(wilson(float(kept.sum()), len(kept), level))
        elif len(kept) < 2:
            found.append(Interval(float(kept[0]), -math.inf, math.inf))
        elif whole:
            means = means if means is not None else _resampled_means(values, resamples, seed)
            found.append(_expanded(float(kept.mean()), means[:, at], len(kept), level))
        else:
            found.append(_expanded(float(kept.mean()), _resampled_means(kept, resamples, seed), len(kept), level))
    return found


def mean_interval(values: FloatArray, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean over questions of ``values``, (Q,), as in :func:`mean_intervals`."""
    return mean_intervals(np.asarray(values, float)[:, None], level=level, resamples=resamples, seed=seed)[0]


def _resampled_means(values: FloatArray, resamples: int, seed: int) -> FloatArray:
    """Means of ``values``, (Q,) or (Q, C), over questions drawn with replacement: (resamples,) or (resamples, C)."""
    rng = np.random.default_rng(seed)
    q = len(values)
    drawn = rng.multinomial(q, np.full(q, 1 / q), size=resamples)
    return np.asarray(drawn @ values / q)


def _expanded(value: float, means: FloatArray, q: int, level: float) -> Interval:
    z = math.sqrt(q / (q - 1)) * float(stdtrit(q - 1, (1 + level) / 2))
    tail = NormalDist().cdf(-z)
    low, high = np.quantile(means, (tail, 1 - tail))
    return Interval(value, float(low), float(high))


def paired_difference(
    a: FloatArray, b: FloatArray, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The mean over questions of a - b, (Q,) each, with its interval: which strategy is better, and by how much.

    Where each question is simply right or wrong under both, the interval is Bonett and Price's (2012): a Wald interval
    after one question more of each kind of disagreement, which says what is true also where the two never disagreed.
    """
    differences = np.asarray(a, float) - np.asarray(b, float)
    q = len(differences)
    if q == 0:
        return Interval(math.nan, -1.0, 1.0)
    if not np.isin(differences, (-1.0, 0.0, 1.0)).all():
        return mean_interval(differences, level=level, resamples=resamples, seed=seed)
    z = NormalDist().inv_cdf((1 + level) / 2)
    better, worse = (float((differences == sign).sum() + 1) / (q + 2) for sign in (1, -1))
    half = z * math.sqrt(max(0.0, better + worse - (better - worse) ** 2) / (q + 2))
    return Interval(float(differences.mean()), max(-1.0, better - worse - half), min(1.0, better - worse + half))


def questions_to_settle(differences: FloatArray, *, level: float = 0.95, power: float = 0.8) -> int | None:
    """How many questions it takes until a difference as large as the one seen, (Q,), shows with such probability.

    From the normal approximation, ((z_level + z_power) · sd / mean)². None where no difference was seen at all.
    """
    mean, spread = float(np.mean(differences)), float(np.std(differences, ddof=1)) if len(differences) > 1 else 0.0
    if mean == 0 or spread == 0:
        return None
    z = NormalDist().inv_cdf((1 + level) / 2) + NormalDist().inv_cdf(power)
    return math.ceil((z * spread / mean) ** 2)
