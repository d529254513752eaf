"""Coverage beyond the pool: what more trajectories would find, by a beta-binomial fit with zero inflation.

A question's chance p that a trajectory is right is taken to be 0 for a share of the questions and Beta(a, b) for the
others, so the number of right ones among n is a beta-binomial with extra zeros, and pass@k is an expectation under the
fit (as in Large Language Monkeys, arXiv 2407.21787, and Schaeffer et al., arXiv 2502.17578). A fit is only worth what
it predicts: ``held_out`` fits on few trajectories and compares with what the whole pool says of more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, expit, gammaln

from fathom.lab.statistics import FloatArray, IntArray, passes_at_k

__all__ = ["CoverageFit", "HeldOut", "fit_coverage", "held_out"]

_LARGEST = 12.0  # of the logarithms of a and b: beyond it a Beta is a point, and the likelihood flat


@dataclass(frozen=True, slots=True)
class CoverageFit:
    """The fit: a share ``zero`` of questions is never right, the others' chance is Beta(``a``, ``b``)."""

    zero: float
    a: float
    b: float

    def pass_at(self, k: Sequence[int] | IntArray | FloatArray) -> FloatArray:
        """The expected pass@k over questions, for each k."""
        at = np.asarray(k, float)
        return np.asarray((1 - self.zero) * -np.expm1(betaln(self.a, self.b + at) - betaln(self.a, self.b)))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How well a fit on ``seen`` trajectories a question predicted the pool's own pass@k for larger ``k``."""

    seen: int
    k: tuple[int, ...]
    predicted: tuple[float, ...]
    observed: tuple[float, ...]

    @property
    def error(self) -> float:
        """The largest absolute error over k."""
        return max(abs(p - o) for p, o in zip(self.predicted, self.observed, strict=True))


def fit_coverage(n: IntArray, correct: IntArray) -> CoverageFit:
    """The maximum-likelihood fit to ``correct`` right ones of ``n``, (Q,) each. Questions without trajectories say
    nothing. Raises ValueError where there is no question at all."""
    pairs, times = np.unique(np.stack([n, correct])[:, n > 0], axis=1, return_counts=True)
    if pairs.size == 0:
        raise ValueError("a fit of coverage needs at least one question with a trajectory")
    size, right = pairs.astype(float)

    def loss(theta: FloatArray) -> float:
        zero = expit(theta[0])
        log_a, log_b = np.clip(theta[1:], -_LARGEST, _LARGEST)
        a, b = np.exp(log_a), np.exp(log_b)
        log = _log_beta_binomial(right, size, a, b)
        with np.errstate(divide="ignore"):
            log = np.log1p(-zero) + log
            log = np.where(right == 0, np.logaddexp(np.log(zero), log), log)
        return float(-(times * log).sum()) + 1e-3 * float(np.abs(theta).sum())  # a touch of prior: no run to infinity

    starts = [(zero, a, b) for zero in (-4.0, -1.0) for a, b in ((-1.0, -1.0), (0.0, 1.0), (1.0, 0.0))]
    fits = [minimize(loss, np.array(start), method="Nelder-Mead", options={"maxiter": 600}) for start in starts]
    best = min(fits, key=lambda fit: float(fit.fun)).x
    a, b = np.exp(np.clip(best[1:], -_LARGEST, _LARGEST))
    return CoverageFit(float(expit(best[0])), float(a), float(b))


def _log_beta_binomial(right: FloatArray, n: FloatArray, a: float, b: float) -> FloatArray:
    choose = gammaln(n + 1) - gammaln(right + 1) - gammaln(n - right + 1)
    return np.asarray(choose + betaln(right + a, n - right + b) - betaln(a, b))


def held_out(correct: FloatArray, seen: int | None = None, seed: int = 0) -> HeldOut | None:
    """Fit on ``seen`` trajectories of each question (default: a quarter), predict pass@k for the larger k.

    ``correct``, (Q, n), is 1 for a right trajectory. None where the pool is too small to hold anything out.
    """
    n = correct.shape[1]
    seen = n // 4 if seen is None else seen
    if seen < 2 or seen >= n:
        return None
    mixed = np.random.default_rng(seed).permuted(correct, axis=1)
    fit = fit_coverage(np.full(len(mixed), seen), mixed[:, :seen].sum(1).astype(int))
    ks = (*(k for k in (2**i for i in range(1, 21)) if seen < k < n), n)
    total, right = np.full(len(mixed), n), mixed.sum(1).astype(int)
    observed = tuple(float(passes_at_k(total, right, k).mean()) for k in ks)
    return HeldOut(seen, ks, tuple(fit.pass_at(ks).tolist()), observed)
