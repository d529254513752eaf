"""Every strategy at every width from one pool, all questions and draws at a time.

A strategy of width k is scored on draws of k of a question's n samples without replacement, in the order in which they
are started: on all of them where they are few, else on as many random ones as the point says. What is drawn is put in
the order in which it would have come in, and the strategy's rule is applied to all draws together. ``replay`` plays a
single draw with the search itself; the two agree on each, which tests hold. The baselines are exact at every k.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from fathom.errors import UsageError
from fathom.judges.base import Timing, timing_of
from fathom.lab.ballots import Arrivals, BoolArray, Result, adaptive, best_of_n, first, fixed
from fathom.lab.pool import Columns, Graded, Pool
from fathom.lab.replay import replay
from fathom.lab.statistics import FloatArray, IntArray, majority_at_k, passes_at_k
from fathom.search import BestOfN, Direct, First, Strategy, Vote

__all__ = ["DRAWS", "Plays", "Point", "baselines", "default_strategies", "orders", "powers", "score"]

DRAWS = 32
"""Random draws of k samples in some order, where there are more than that."""
_ELEMENTS = 1 << 21  # that are worked on at a time
_Arrived = dict[tuple[bool, bool], Arrivals]
_PLAYED = 8  # draws of strategies that are played one by one, and single draws of the baselines
_ALIKE = 8  # draws that differ in one sample
_ORDERS = 4  # draws that differ in their order only


@dataclass(frozen=True, eq=False)
class Plays:
    """Single draws, (Q, S) each: whether the answer was right, the steps it took, and the verdicts that were asked for.

    What depends on both at a time, such as being right within a deadline, is told from these and not from their means.
    """

    right: BoolArray
    steps: npt.NDArray[np.float32]
    verdicts: npt.NDArray[np.float32]

    @classmethod
    def of(cls, right: npt.NDArray[Any], steps: npt.NDArray[Any], verdicts: npt.NDArray[Any] | None = None) -> Plays:
        """From numbers of any kind; without ``verdicts`` there are none."""
        asked = np.zeros(right.shape, np.float32) if verdicts is None else verdicts.astype(np.float32)
        return cls(right.astype(bool), steps.astype(np.float32), asked)


@dataclass(frozen=True, eq=False)
class Point:
    """A strategy at one width on every question of a pool: means over draws, (Q,) each.

    ``right`` is the chance that its answer is right, ``tokens`` what it generates, ``steps`` how long it takes in steps
    of one unit each, ``confidence`` what it says of itself, ``started`` how many trajectories it begins, of which
    ``together`` run at a time at most. ``draws`` is how many draws stand behind it, 0 for an exact result; ``plays``
    are draws one by one, also where the means are exact. ``judge`` is the one whose verdicts it asks for, by its spec.
    """

    strategy: str
    width: int
    right: FloatArray
    tokens: FloatArray
    steps: FloatArray
    confidence: FloatArray
    started: FloatArray
    plays: Plays
    draws: int
    together: int
    judge: str = ""

    @property
    def label(self) -> str:
        """The strategy with its width."""
        return f"{self.strategy} at {self.width}"


def powers(width: int) -> tuple[int, ...]:
    """The widths that are scored by default: powers of two up to ``width``, and ``width``."""
    return (*(2**i for i in range(width.bit_length()) if 2**i < width), width)


def default_strategies(pool: Pool) -> list[Strategy]:
    """All that can be scored on this pool: votes, fixed and adaptive with several thresholds, first to finish, best of
    n by the model's own probability and by each judge that was asked."""
    found: list[Strategy] = [Vote(stop="never"), Vote(stop="never", greedy=True), Vote(greedy=True)]
    found += [Vote(wave=1), *(Vote(sure=sure) for sure in (0.99, 0.95, 0.9, 0.8))]  # the first serves the others
    found += [First(), First(of=3)]
    if np.isfinite(pool.samples.logprob).all():
        found += [BestOfN(), BestOfN(weighted=True)]
    from fathom.judges.registry import JUDGES

    for spec, graded in sorted(pool.verdicts.items()):
        judge = JUDGES.build(spec)
        found += [BestOfN(judge=judge, weighted=weighted) for weighted in (False, True)]
        if graded.greedy:
            found.append(BestOfN(judge=judge, greedy=True))
        if graded.greedy and timing_of(judge) is Timing.EACH:
            found.append(BestOfN(judge=judge, wave=1, greedy=True))
    return found


def baselines(pool: Pool, widths: Iterable[int] | None = None) -> list[Point]:
    """What every report shows: the greedy answer, a single sample, the majority and the oracle (pass@k), all exact.

    Ties of the majority are broken evenly here. The oracle knows which sample is right, so no strategy beats it.
    """
    ks = powers(pool.width) if widths is None else tuple(widths)
    samples, right = pool.samples, pool.samples.right
    n, correct = np.full(len(pool), pool.width), right.sum(1).astype(int)
    tokens = samples.tokens.astype(float)
    each, one = tokens.mean(1), np.ones(len(pool))
    nothing = np.full(len(pool), np.nan)
    points = [
        _greedy(pool, "greedy"),
        Point("sample", 1, right.mean(1), each, each, nothing, one, Plays.of(right, tokens), draws=0, together=1),
    ]
    majority = np.stack([_majority(pool, q) for q in range(len(pool))])
    slowest = _expected_maximum(tokens)
    for k in ks:
        drawn, _ = orders(pool.width, k, _PLAYED)
        voted = _result(pool, Vote(width=k, stop="never"), drawn, {})
        found = Plays.of(right[:, drawn].max(-1), voted.steps)
        for name, mean, plays in (
            ("majority", majority[:, k - 1], Plays.of(voted.right, voted.steps)),
            ("oracle", passes_at_k(n, correct, k), found),
        ):
            points.append(Point(name, k, mean, k * each, slowest[:, k - 1], nothing, k * one, plays, 0, k))
    return points


def _majority(pool: Pool, q: int) -> FloatArray:
    code, right = pool.samples.code[q], pool.samples.right[q]
    parsed = pool.samples.parsed[q]
    given = [c for c in np.unique(code) if c >= 0 and parsed[code == c].any()]
    counts = [int((code == c).sum()) for c in given]
    return majority_at_k(counts, [bool(right[code == c].mean() >= 0.5) for c in given], len(code) - sum(counts))


def _expected_maximum(values: FloatArray) -> FloatArray:
    """The mean over draws of k of n of the largest value, for every k: (Q, n) from (Q, n)."""
    n = values.shape[1]
    rising = np.sort(values, axis=1)
    found = np.empty_like(rising)
    weight = np.zeros(n)
    for k in range(1, n + 1):
        for i in range(n):  # P(the i-th smallest is the largest of k) = C(i, k - 1) / C(n, k)
            weight[i] = math.comb(i, k - 1) / math.comb(n, k)
        found[:, k - 1] = rising @ weight
    return found


def score(
    pool: Pool,
    strategies: Sequence[Strategy] | None = None,
    widths: Iterable[int] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Point]:
    """Score strategies at widths (default: all that can be, at powers of two). Those without a width have one point.

    Raises UsageError for a strategy that steers generation, or that asks for what the pool does not hold.
    """
    chosen = default_strategies(pool) if strategies is None else list(strategies)
    found: dict[tuple[int, int], Point] = {}
    for at, strategy in enumerate(chosen):
        if isinstance(strategy, Direct):
            _check_depth(strategy, pool)
            found[at, 0] = _greedy(pool, str(strategy))
    for k in powers(pool.width) if widths is None else widths:
        arrived: _Arrived = {}
        for at, strategy in enumerate(chosen):
            least = strategy.of if isinstance(strategy, First) else 1
            if k >= least and not isinstance(strategy, Direct):
                found[at, k] = _point(pool, strategy, k, draws, seed, arrived)
    return [found[key] for key in sorted(found, key=lambda key: key[0])]


def _point(pool: Pool, strategy: Strategy, k: int, draws: int, seed: int, arrived: _Arrived) -> Point:
    """``arrived`` are arrivals at this width that strategies share, where all questions are worked on at a time."""
    name, sized = str(_sized(strategy, None)), _sized(strategy, k)
    if k == 1 and isinstance(strategy, Vote):
        return _greedy(pool, name)
    vectorised, greedy = _vectorised(sized, pool), getattr(sized, "greedy", False)
    draws = min(draws, _ALIKE) if greedy and k == pool.width else draws
    drawn, exact = orders(pool.width, k - greedy, draws if vectorised else min(draws, _PLAYED), seed)
    if greedy:  # it stands behind the samples, and comes first
        drawn = np.insert(drawn, 0, pool.width, axis=1)
    if vectorised:
        _check_depth(sized, pool)
        came = _result(pool, sized, drawn, arrived)
    else:
        came = _played(pool, sized, k, drawn)
    judge = getattr(sized, "judge", None)
    return Point(
        name,
        k,
        came.right.mean(1),
        came.tokens.mean(1),
        came.steps.mean(1),
        came.confidence.mean(1),
        came.started.mean(1),
        Plays.of(came.right, came.steps, came.verdicts),
        draws=0 if exact else len(drawn),
        together=min(k, getattr(sized, "wave", None) or k),
        judge="" if judge is None else str(judge),
    )


def _result(pool: Pool, sized: Strategy, drawn: IntArray, arrived: _Arrived) -> Result:
    """What a strategy comes to on each draw of each question."""
    greedy, sequential = getattr(sized, "greedy", False), getattr(sized, "wave", None) == 1
    rows = max(1, _ELEMENTS // drawn.size)
    parts, columns = [], pool.samples.beside(pool.greedy) if greedy else pool.samples
    for start in range(0, len(pool), rows):
        part = columns.rows(at := slice(start, start + rows))
        arrivals = arrived.get((sequential, greedy)) or Arrivals.of(part, drawn, sequential=sequential, greedy=greedy)
        if rows >= len(pool):
            arrived[sequential, greedy] = arrivals
        parts.append(_scored(sized, arrivals, pool, part, at, drawn))
    return Result.joined(parts)


def _sized(strategy: Strategy, width: int | None) -> Strategy:
    """The strategy at a width, where it has one."""
    return replace(strategy, width=width) if hasattr(strategy, "width") else strategy  # type: ignore[call-arg]


def _vectorised(strategy: Strategy, pool: Pool) -> bool:
    """Whether the rules in ``ballots`` cover this strategy; any other is played."""
    if getattr(strategy, "at_least", 0):
        raise UsageError(f"{strategy} steers generation, which no pool can replay: run it live")
    wave = getattr(strategy, "wave", None)
    if wave is not None and 1 < wave < (getattr(strategy, "width", None) or 0):
        return False
    if isinstance(strategy, Vote):
        return not strategy.confidence
    if isinstance(strategy, BestOfN) and strategy.judge is not None:
        graded = pool.graded(str(strategy.judge), greedy=strategy.greedy)
        timing = timing_of(strategy.judge)
        return timing is Timing.EACH or (timing is Timing.DIFFERING and bool((graded.passed < 0).all()))
    return isinstance(strategy, First | BestOfN)


def _scored(strategy: Strategy, arrivals: Arrivals, pool: Pool, part: Columns, at: slice, drawn: IntArray) -> Result:
    match strategy:
        case Vote(stop="never"):
            return fixed(arrivals)
        case Vote(stop=rule, sure=sure):
            return adaptive(arrivals, rule, sure)
        case First(of=of):
            return first(arrivals, of)
        case BestOfN(judge=None, weighted=weighted):
            own = np.nan_to_num(np.minimum(1.0, np.exp(part.logprob)))
            came = best_of_n(arrivals, Graded(own, np.full(own.shape, -1)), drawn, weighted=weighted, held=False)
            return replace(came, verdicts=np.zeros_like(came.verdicts))  # nobody was asked
        case BestOfN(judge=judge, weighted=weighted) if judge is not None:
            graded = pool.graded(str(judge))
            said = Graded(graded.score[at], graded.passed[at])
            held = timing_of(judge) is Timing.DIFFERING
            return best_of_n(arrivals, said, drawn, weighted=weighted, held=held)
    raise AssertionError(f"{strategy} is none of the strategies that are vectorised")


def orders(n: int, k: int, draws: int = DRAWS, seed: int = 0) -> tuple[IntArray, bool]:
    """Draws of k of n in the order in which they are started, (S, k), and whether these are all that there are.

    Where the sets of k are few, but not their orders, each set comes in several random orders: rules look at the order,
    were it only in breaking ties. The same draws serve all questions, whose samples have nothing to do with one
    another. Raises UsageError where k is more than n.
    """
    if k > n:
        raise UsageError(f"a width of {k} is more than the {n} samples a question of this pool")
    if math.perm(n, k) <= draws:
        return np.array(list(permutations(range(n), k)), np.int64), True
    if math.comb(n, k) > draws:
        some = np.tile(np.arange(n), (draws, 1))
    else:
        some = np.repeat(np.array(list(combinations(range(n), k)), np.int64), min(_ORDERS, draws // math.comb(n, k)), 0)
    return np.random.default_rng(seed).permuted(some, axis=1)[:, :k], False


def _played(pool: Pool, strategy: Strategy, k: int, drawn: IntArray) -> Result:
    plays = [[replay(strategy, pool, q, width=k, order=order) for order in drawn.tolist()] for q in range(len(pool))]
    names = ("score", "tokens", "steps", "confidence", "width", "verdicts")
    scores, *others = (np.array([[getattr(p, name) for p in row] for row in plays], float) for name in names)
    return Result((scores >= 1).astype(float), *others)


def _greedy(pool: Pool, name: str) -> Point:
    """What the greedy answers came to."""
    greedy = pool.greedy.rows((slice(None), 0))
    tokens = greedy.tokens.astype(float)
    own = np.where(np.isfinite(greedy.logprob), np.exp(np.nan_to_num(greedy.logprob)), 2 / 3)
    confidence = np.where(greedy.code >= 0, own, 0.0)
    plays = Plays.of(pool.greedy.right, pool.greedy.tokens)
    return Point(name, 1, greedy.right, tokens, tokens, confidence, np.ones(len(pool)), plays, draws=0, together=1)


def _check_depth(strategy: Strategy, pool: Pool) -> None:
    asked = getattr(strategy, "depth", None)
    if asked is not None and asked != pool.depth:
        said = "the model's own limit" if pool.depth is None else pool.depth
        raise UsageError(f"{strategy} asks for a depth of {asked}; this pool was drawn at {said}")
