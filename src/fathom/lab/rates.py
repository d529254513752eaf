"""The exchange rate: how many times its own greedy answer's compute a smaller model needs to be right as often as a
larger one's greedy answer.

The cheapest of many points that suffices on some questions owes part of that to chance, and does worse on others. So
the point is chosen on one half of the questions and counted on the other, both ways round, and all of that over many
random halvings, whose mean is the estimate (cross-fitting repeated, arXiv 1608.00060). On the half where it is chosen a
point has to be ahead by one standard error of the paired difference (the one-standard-error rule of Breiman et al.,
1984): the cheapest of those that are just enough there is too little elsewhere. A rate is stated where most halvings
have such a point on both halves, and those that were chosen are right as often as the larger model on the questions
that they were not chosen on, to within a point. Its interval is a bootstrap over questions, each resample halved anew
with every copy of a question in one half.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fathom.lab.compare import COSTS, Contender
from fathom.lab.statistics import RESAMPLES, FloatArray, IntArray, Interval, paired_difference

__all__ = ["Exchange", "exchange"]

HALVINGS = 200
"""Random halvings of the questions behind an estimate."""
REACHED = 0.5
"""The share of halvings that must have a sufficient point on both halves for a rate to be stated."""
TOLERANCE = 0.01
"""By how much less often a chosen point may be right on other questions."""
_EXACT = 1e-9


@dataclass(frozen=True, slots=True)
class Exchange:
    """How many times the cost of its own greedy answer ``smaller`` needs to match the greedy answer of ``larger``.

    ``greedy`` is how much more often the smaller one's greedy answer is right than the larger one's, paired by
    question; where it is not less often, that is all there is to say, at a rate of 1. ``rate`` is None where the
    smaller one does not get there within the range; ``high`` is infinite where some resamples do not. ``to_larger`` is
    the same cost over that of the larger model's greedy answer: above 1, size is cheaper. ``by`` is the point that is
    chosen most often. ``reached`` is the share of halvings with a sufficient point on both halves, and ``held_out`` how
    much more often those that were chosen are right than the larger model on the questions that they were not chosen
    on, None where there are none. ``best`` is the difference of the best point on the very questions that say that it
    is best: more than can be expected of it.
    """

    smaller: str
    larger: str
    cost: str
    greedy: Interval
    rate: Interval | None
    to_larger: float | None
    by: str
    reached: float
    held_out: Interval | None
    best: Interval

    def __str__(self) -> str:
        plain = f"their greedy answers differ by {self.greedy.signed}"
        if self.greedy.value >= 0:
            return f"{self.smaller} is right as often as {self.larger} without more {self.cost}: {plain}"
        if self.rate is not None and self.to_larger is not None:
            high = f"{self.rate.high:.1f}" if math.isfinite(self.rate.high) else "never"
            return (
                f"{self.smaller} matches the greedy answer of {self.larger} to within a point at {self.rate.value:.1f} "
                f"times [{self.rate.low:.1f}, {high}] its own {self.cost}, mostly by {self.by}: {self.to_larger:.2g} "
                f"times what {self.larger} takes. On questions that this was not chosen on they differ by "
                f"{self._other}; {plain}"
            )
        why = f"its best on these very questions differs by {self.best.signed}, and enough on both halves is found in "
        return (
            f"{self.smaller} is not shown to match the greedy answer of {self.larger} within the range, whatever the "
            f"{self.cost}: {why}{self.reached:.0%} of halvings"
            + (f", where what is chosen on one half differs on the other by {self._other}" if self.held_out else "")
            + f"; {plain}"
        )

    @property
    def told(self) -> dict[str, Any]:
        """As plain data, with what it says in words; None for an upper end that is infinite, which JSON cannot say."""
        found = {**asdict(self), "says": str(self)}
        if self.rate is not None and math.isinf(self.rate.high):
            found["rate"]["high"] = None
        return found

    @property
    def _other(self) -> str:
        return "" if self.held_out is None else self.held_out.signed


def exchange(
    smaller: Contender, larger: Contender, cost: str, *, resamples: int = RESAMPLES, seed: int = 0
) -> Exchange | None:
    """The exchange rate of two models. None where the cost of either's greedy answer is unknown, or where neither model
    is the smaller one. Points of unknown cost are left out."""
    if not smaller.size < larger.size:
        return None
    priced = [(pool, point, COSTS[cost](pool, point)) for pool, point in smaller.points]
    priced = [one for one in priced if np.isfinite(one[2]).all()]
    own, theirs = COSTS[cost](*smaller.greedy), COSTS[cost](*larger.greedy)
    if not (np.isfinite(own).all() and np.isfinite(theirs).all()):
        return None
    plain = larger.greedy[1].right
    names = [f"{point.label}" + ("" if pool.depth is None else f", depth {pool.depth}") for pool, point, _ in priced]
    right = np.stack([point.right for _, point, _ in priced], axis=1)
    spent = np.stack([each for *_, each in priced], axis=1)
    greedy = paired_difference(smaller.greedy[1].right, plain)
    best = paired_difference(right[:, right.mean(0).argmax()], plain)
    said = (smaller.name, larger.name, cost, greedy)
    if greedy.value >= 0:
        return Exchange(*said, Interval(1.0, 1.0, 1.0), float(own.sum() / theirs.sum()), "greedy", 1.0, greedy, best)
    found = _crossed(right - plain[:, None], spent, np.ones((HALVINGS, len(plain))), seed)
    reached = float(found.found.mean())
    if not found.found.any():
        return Exchange(*said, None, None, "", reached, None, best)
    held_out = paired_difference(found.held_out, np.zeros(len(plain)))
    if reached <= REACHED or held_out.value < -TOLERANCE:
        return Exchange(*said, None, None, "", reached, held_out, best)
    price = float(found.spent[found.found].mean())
    q = len(plain)
    drawn = np.random.default_rng(seed).multinomial(q, np.full(q, 1 / q), size=resamples).astype(float)
    again = _crossed(right - plain[:, None], spent, drawn, seed + 1)
    rates = np.where(again.found, again.spent / (drawn @ own), math.inf)
    low, high = np.quantile(rates, (0.025, 0.975), method="inverted_cdf")
    rate = Interval(price / float(own.sum()), float(low), float(high))
    by = names[np.bincount(found.chosen[found.found].ravel()).argmax()]
    return Exchange(*said, rate, price / float(theirs.sum()), by, reached, held_out, best)


@dataclass(frozen=True, eq=False)
class _Crossed:
    """What halvings came to: whether there was a sufficient point on both halves, (R,), which two were chosen, (R, 2),
    what they cost on the questions that they were not chosen on, (R,), and how often they are right there, more than
    the larger model, over the halvings that found any, (Q,)."""

    found: npt.NDArray[np.bool_]
    chosen: IntArray
    spent: FloatArray
    held_out: FloatArray


def _crossed(ahead: FloatArray, spent: FloatArray, weights: FloatArray, seed: int) -> _Crossed:
    """Choose on one half and count on the other, both ways round.

    ``ahead`` is how much more often each point is right than the larger model, ``spent`` what it costs, (Q, P) each;
    ``weights``, (R, Q), how often each resample has a question. Each is halved once, at random.
    """
    r, q = weights.shape
    halves = np.random.default_rng(seed).random((r, q)).argsort(axis=1) < q // 2
    found, total, chosen, held_out = np.ones(r, bool), np.zeros(r), [], np.zeros((r, q))
    every = np.arange(r)
    for half in (halves, ~halves):
        here, other = weights * half, weights * ~half
        n = np.maximum(here.sum(1, keepdims=True), 2)
        mean = here @ ahead / n
        error = np.sqrt(np.maximum(here @ ahead**2 / n - mean**2, 0) / (n - 1))
        price = np.where(mean >= error - _EXACT, here @ spent, np.inf)
        choice = price.argmin(axis=1)
        found &= np.isfinite(price[every, choice])
        chosen.append(choice)
        total += (other * spent.T[choice]).sum(1)
        held_out += ~half * ahead.T[choice]
    mean_ahead = held_out[found].mean(axis=0) if found.any() else np.full(q, np.nan)
    return _Crossed(found, np.stack(chosen, axis=1), total, mean_ahead)
