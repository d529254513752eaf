"""When to stop sampling: once the vote cannot change, or is unlikely to.

All rules see the votes as draws from an unknown distribution over answers under a uniform Dirichlet prior. The Beta
rule and the Dirichlet rule are those of Adaptive-Consistency (Aggarwal et al., arXiv 2305.11860); `chance_of_losing`
asks the question that a finite budget asks: not who is the true mode, but who would lead after the samples that are
still to come. Counts are numbers of votes, in any order; each rule is a function of them alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

__all__ = ["beats_runner_up", "cannot_change", "chance_of_losing", "is_mode"]

_STEP = 0.45  # of the trapezoidal rule, in standard deviations of the bell
_PRECISE = 1e-280  # a smaller probability may have lost digits: what comes next is not computed from it
_NEGLIGIBLE = 1e-11  # of the bell's height: where the rule and the sums below leave off


def cannot_change(counts: Iterable[float], remaining: float, max_weight: float = 1.0) -> bool:
    """Whether the leader leads even if all `remaining` samples agree on the runner-up, or on a new answer.

    Strictly: a lead that could still be made a tie is not safe, since a tie-break may go either way. For weighted
    votes, `max_weight` is the most that one sample can weigh.
    """
    first, second = _first_two(counts)
    return remaining <= 0 or first - second > remaining * max_weight


def beats_runner_up(counts: Iterable[int]) -> float:
    """The Beta rule: the probability that the leader is truly more likely than the runner-up, 1 - I_{1/2}(v1+1, v2+1).

    Computed as the binomial sum P(Bin(v1 + v2 + 1, 1/2) <= v1), accurate to 1e-12. With no votes at all it is 1/2.
    """
    first, second = _first_two(counts)
    return _beta_above_half(int(first), int(second))


def _first_two(counts: Iterable[float]) -> tuple[float, float]:
    ordered = sorted(counts, reverse=True)
    if ordered and ordered[-1] < 0:
        raise ValueError(f"a count of votes is negative: {ordered[-1]!r}")
    first, second, *_ = (*ordered, 0, 0)
    return first, second


def _beta_above_half(first: int, second: int) -> float:
    """P(p > 1/2) for p ~ Beta(first + 1, second + 1), first >= second: one minus the upper binomial tail."""
    trials = first + second + 1
    term = math.comb(trials, second) / (1 << trials)  # exact integers, correctly rounded quotient
    tail = 0.0
    for k in range(second, -1, -1):
        tail += term
        if term < 1e-18:
            break
        term *= k / (trials - k + 1)
    return 1.0 - tail


def is_mode(counts: Iterable[int], unseen: bool = True) -> float:
    """The Dirichlet rule: the probability that the leader is the most likely of *all* answers.

    The shares of the answers are Dirichlet(counts + 1), with one more answer of count 0 that nobody has given yet
    (`unseen`; leave it out where the answers are a closed set and all are counted). A Dirichlet draw is a normalised
    draw of independent Gammas, so the probability is one integral, E[prod_i F_i(X)] with X ~ Gamma(v1 + 1). In log x
    its integrand is a bell, for which the trapezoidal rule converges geometrically: absolute error below 1e-9.
    """
    ordered = sorted(counts, reverse=True)
    if not ordered:
        return 0.0 if unseen else 1.0
    rivals = Counter(count + 1 for count in [*ordered[1:], *([0] if unseen else [])])
    shape = ordered[0] + 1
    step = min(0.25, _STEP / math.sqrt(shape))
    peak = math.exp(shape * math.log(shape) - shape - math.lgamma(shape))
    total = 0.0
    for direction in (step, -step):
        at = 0.0 if direction > 0 else direction
        while (bell := math.exp(shape * (at + 1 - math.exp(at)))) > _NEGLIGIBLE:
            x = shape * math.exp(at)
            for rival, times in rivals.items():
                bell *= _gamma_cdf(rival, x) ** times
            total += bell
            at += direction
    return min(1.0, total * peak * step)


def _gamma_cdf(shape: int, x: float) -> float:
    """P(Gamma(shape) <= x) for a whole shape: a Poisson tail, summed outwards from its largest term."""
    term = math.exp(shape * math.log(x) - x - math.lgamma(shape + 1))
    total = 0.0
    if x < shape:
        k = shape
        while term > _NEGLIGIBLE:
            total += term
            k += 1
            term *= x / k
        return total
    term *= shape / x
    for k in range(shape - 1, -1, -1):
        total += term
        term *= k / x
        if term < _NEGLIGIBLE:
            break
    return 1.0 - total


def chance_of_losing(counts: Iterable[int], remaining: int, unseen: bool = True, enough: float = 1.0) -> float:
    """The probability that the leader no longer leads alone once `remaining` more samples were drawn.

    The samples follow the posterior predictive of the votes, a Dirichlet-multinomial with parameters counts + 1 (and
    1 for an answer that nobody gave yet, where `unseen`). For two answers in all it is exact: a Beta-binomial tail.
    For more it is the sum over rivals of the exact chance that this one draws level, a bound from above that is tight
    where it is small, which is where one stops. A tie counts as a loss, since a tie-break may go either way.

    Where it is more than ``enough``, which is mostly seen soon, any number between that and itself is given.
    """
    ordered = tuple(sorted(counts, reverse=True))
    if remaining <= 0 or not ordered:
        return 0.0 if ordered else 1.0
    return _chance_of_losing(ordered, remaining, unseen, enough)


@lru_cache(maxsize=4096)  # votes of few samples take few shapes, and many runs pass through the same ones
def _chance_of_losing(ordered: tuple[int, ...], remaining: int, unseen: bool, enough: float) -> float:
    leader, others = ordered[0], Counter([*ordered[1:], *([0] if unseen else [])])
    mass = sum((count + 1) * times for count, times in others.items())
    total = 0.0
    for rival, times in others.items():
        total += times * _draws_level(leader, rival, mass - (rival + 1), remaining, enough)
        if total > enough:
            break
    return min(1.0, total)


@lru_cache(maxsize=1 << 16)  # many votes of different shapes have the same first two
def _draws_level(leader: int, rival: int, rest: float, remaining: int, enough: float) -> float:
    """P(rival + its draws >= leader + its draws), where the other answers have Dirichlet mass `rest`.

    Sums over t, the draws that fall on the pair. G(t) = P(X <= c(t)) for X of the t on the leader moves by one known
    term as t grows by one, and by another as c(t) = (t - lead) // 2 does, and each term follows from the one before, so
    the sum costs O(remaining).
    """
    a, b, lead = leader + 1, rival + 1, leader - rival
    level, total, at_c, on_pair = 0.0, 0.0, 0.0, 0.0
    for t in range(lead, remaining + 1):
        c = (t - lead) // 2
        up = (t - lead) % 2 == 0
        if at_c < _PRECISE:
            at_c = _beta_binomial(c, t, a, b)
        else:
            at_c *= t / (t - c + up) * (b + t - 1 - c + up) / (a + b + t - 1)  # from t - 1, the same c
            if up:
                at_c *= (t - c + 1) / c * (a + c - 1) / (b + t - c)  # from c - 1
        if up:
            level += at_c
        if not rest:
            total += level if t == remaining else 0.0
        elif on_pair < _PRECISE:
            total += level * (on_pair := _beta_binomial(t, remaining, a + b, rest))
        else:
            on_pair *= (remaining - t + 1) / t * (a + b + t - 1) / (rest + remaining - t)
            total += level * on_pair
        if total > enough:
            break
        level -= at_c * (a + c) / (a + b + t)
    return total


def _beta_binomial(k: int, n: int, a: float, b: float) -> float:
    """P(k successes in n) for a success rate ~ Beta(a, b)."""
    log = math.lgamma
    choose = log(n + 1) - log(k + 1) - log(n - k + 1)
    return math.exp(choose + log(a + k) + log(b + n - k) - log(a + b + n) + log(a + b) - log(a) - log(b))
