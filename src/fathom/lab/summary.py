"""What a pool says, in numbers with intervals: accuracy, tokens, time, arithmetic, money, calibration, and thresholds
that were tuned on one half of the questions and are reported on the other.

What a strategy's judge takes is part of its cost. Where that is not known, neither is the cost (NaN).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fathom.lab.judging import FREE, VerdictCost
from fathom.lab.pool import Pool
from fathom.lab.scoring import Point, baselines, score
from fathom.lab.statistics import FloatArray, Interval, mean_intervals, paired_difference, questions_to_settle, wilson
from fathom.language.engines.base import Pace, Price
from fathom.search import Vote

__all__ = [
    "Bin",
    "Row",
    "Tuned",
    "Versus",
    "against_majority",
    "dollars_of",
    "flops_of",
    "goodput",
    "reliability",
    "rows",
    "seconds_of",
    "times_of",
    "tokens_of",
    "tuned",
]

THRESHOLDS = (0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
BINS = 10


def _verdict(pool: Pool, point: Point) -> VerdictCost:
    """What each verdict that the point's strategy asks for costs."""
    return pool.graded(point.judge).each if point.judge else FREE


def _asked(point: Point) -> FloatArray:
    """Verdicts asked for on each question, (Q,)."""
    return np.asarray(point.plays.verdicts.mean(1, dtype=float))


def _clock(pool: Pool, point: Point) -> tuple[FloatArray, FloatArray]:
    """Seconds until the first step and for each step, (Q,) each.

    From the engine's measured pace where it has one: reading the prompt once, then steps at the width that runs
    together. For a server, from the time that a step took on average while the pool was drawn.
    """
    pace = pool.sweep.facts.get("pace")
    if pace is not None:
        known = Pace(pace["read_seconds"], {int(w): s for w, s in pace["step_seconds"].items()})
        return np.asarray(pool.prompt_tokens * known.read_seconds), np.full(len(pool), known.step(point.together))
    samples = pool.samples
    return np.zeros(len(pool)), np.median(samples.seconds / np.maximum(samples.tokens, 1), axis=1)


def seconds_of(pool: Pool, point: Point) -> FloatArray:
    """Expected seconds of each question, (Q,), its verdicts one after the other."""
    begin, step = _clock(pool, point)
    return np.asarray(begin + point.steps * step + _asked(point) * _verdict(pool, point).seconds)


def times_of(pool: Pool, point: Point) -> FloatArray:
    """Seconds of each draw, (Q, S), as in `seconds_of`."""
    begin, step = _clock(pool, point)
    judging = point.plays.verdicts * _verdict(pool, point).seconds
    return np.asarray(begin[:, None] + point.plays.steps * step[:, None] + judging)


def tokens_of(pool: Pool, point: Point) -> FloatArray:
    """Expected tokens, or units, that each question has generated, (Q,), the judge's too."""
    return np.asarray(point.tokens + _asked(point) * _verdict(pool, point).tokens)


def flops_of(pool: Pool, point: Point) -> FloatArray:
    """Expected arithmetic of each question, (Q,): 2 per parameter and token, the prompt read once; or what was measured
    per supervision step; and the judge's. NaN where neither is known."""
    judging, facts = _asked(point) * _verdict(pool, point).flops, pool.sweep.facts
    if facts.get("unit", "token") == "token":
        own = 2.0 * (pool.parameters or np.nan) * (point.tokens + pool.prompt_tokens)
    else:
        own = (facts.get("unit_flops") or np.nan) * point.tokens
    return np.asarray(own + judging)


def dollars_of(pool: Pool, point: Point) -> FloatArray:
    """Expected price of each question, (Q,), at the prices that the model was opened with, and the judge's; NaN where
    there are none."""
    said = pool.sweep.facts.get("price")
    if said is None:
        return np.full(len(pool), np.nan)
    price = Price(said["prompt"], said["completion"])
    own = (price.prompt * pool.prompt_tokens * point.started + price.completion * point.tokens) / 1e6
    return np.asarray(own + _asked(point) * _verdict(pool, point).dollars)


@dataclass(frozen=True, slots=True)
class Row:
    """A strategy at a width, over all questions. ``per_right`` is tokens for each right answer.

    ``seconds`` are the median and the 95th percentile over questions and draws. ``uncounted`` says what of its judge's
    costs is not known and therefore not in the numbers.
    """

    strategy: str
    width: int
    accuracy: Interval
    tokens: float
    seconds: tuple[float, float]
    flops: float
    dollars: float | None
    per_right: float
    draws: int
    uncounted: tuple[str, ...] = ()


def rows(pool: Pool, points: Sequence[Point]) -> list[Row]:
    """Each point over the pool's questions."""
    accuracies = mean_intervals(np.stack([point.right for point in points], axis=1))
    counted = replace(pool, verdicts={name: replace(g, each=g.each.known) for name, g in pool.verdicts.items()})
    found = []
    for point, accuracy in zip(points, accuracies, strict=True):
        tokens, times, dollars = tokens_of(counted, point), times_of(counted, point), dollars_of(counted, point)
        right = float(point.right.sum())
        found.append(
            Row(
                strategy=point.strategy,
                width=point.width,
                accuracy=accuracy,
                tokens=float(tokens.mean()),
                seconds=(float(np.quantile(times, 0.5)), float(np.quantile(times, 0.95))),
                flops=float(flops_of(counted, point).mean()),
                dollars=None if np.isnan(dollars).any() else float(dollars.mean()),
                per_right=float(tokens.sum()) / right if right else float("inf"),
                draws=point.draws,
                uncounted=_verdict(pool, point).unknown,
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Versus:
    """A strategy against the majority of as many samples, paired. ``needed`` questions would settle the difference;
    ``tokens_saved`` is NaN where it is not known what its judge takes."""

    strategy: str
    width: int
    difference: Interval
    tokens_saved: float
    needed: int | None


def against_majority(pool: Pool, points: Sequence[Point]) -> list[Versus]:
    """Every strategy at the largest width against the exact majority of that width."""
    majority = next(p for p in baselines(pool, [pool.width]) if p.strategy == "majority")
    return [
        Versus(
            p.strategy,
            p.width,
            paired_difference(p.right, majority.right),
            1 - float(tokens_of(pool, p).sum() / majority.tokens.sum()),
            questions_to_settle(p.right - majority.right),
        )
        for p in points
        if p.width == pool.width and p.strategy not in ("majority", "oracle", "greedy", "sample")
    ]


@dataclass(frozen=True, slots=True)
class Bin:
    """Questions of about the same confidence: its mean, and how many of them were right."""

    confidence: float
    accuracy: Interval
    questions: int


def reliability(point: Point) -> tuple[list[Bin], float]:
    """Equally wide bins of confidence that hold any question, and the expected calibration error over them."""
    places = np.minimum((point.confidence * BINS).astype(int), BINS - 1)
    bins = []
    for place in np.unique(places):
        here = places == place
        right = float(point.right[here].sum())
        bins.append(Bin(float(point.confidence[here].mean()), wilson(right, int(here.sum())), int(here.sum())))
    error = sum(b.questions * abs(b.confidence - b.accuracy.value) for b in bins) / len(point.right)
    return bins, error


@dataclass(frozen=True, slots=True)
class Tuned:
    """A stopping threshold: the cheapest that lost nothing on one half of the questions, as it did on the other."""

    sure: float
    width: int
    difference: Interval
    tokens_saved: float
    questions: int


def tuned(pool: Pool, seed: int = 0) -> Tuned | None:
    """Tune the threshold of the adaptive vote. None where there are too few questions for two halves."""
    if len(pool) < 4 or pool.width < 3:
        return None
    ours, theirs = pool.halves(seed)
    votes = [Vote(sure=sure) for sure in THRESHOLDS]
    fixed = score(ours, [Vote(stop="never")], [pool.width])[0]
    tried = list(zip(THRESHOLDS, score(ours, votes, [pool.width]), strict=True))
    lossless = [(sure, p) for sure, p in tried if p.right.mean() >= fixed.right.mean()] or tried[-1:]
    sure = min(lossless, key=lambda one: float(one[1].tokens.mean()))[0]
    chosen, fixed = score(theirs, [Vote(sure=sure), Vote(stop="never")], [pool.width])
    return Tuned(
        sure,
        pool.width,
        paired_difference(chosen.right, fixed.right),
        1 - float(chosen.tokens.sum() / fixed.tokens.sum()),
        len(theirs),
    )


def goodput(pool: Pool, points: Sequence[Point], deadlines: FloatArray, seed: int = 0) -> dict[str, FloatArray]:
    """The share of answers of each strategy that are right and in time for each deadline, (D,), at the best width.

    Each draw is right and in time, or not. The width is chosen on one half of the questions for each deadline, and what
    it does is reported on the other. A strategy whose judge's time is not known has none in time.
    """
    order = np.random.default_rng(seed).permutation(len(pool))
    ours, theirs = order[: len(pool) // 2], order[len(pool) // 2 :]
    found: dict[str, FloatArray] = {}
    for strategy in dict.fromkeys(point.strategy for point in points):
        having = [_in_time(pool, point, deadlines) for point in points if point.strategy == strategy]
        good = np.stack(having)  # (K, D, Q)
        best = good[:, :, ours].mean(-1).argmax(0)
        found[strategy] = good[best, np.arange(len(deadlines))][:, theirs].mean(-1)
    return found


def _in_time(pool: Pool, point: Point, deadlines: FloatArray) -> FloatArray:
    """The share of a question's draws that are right within each deadline, (D, Q)."""
    times = times_of(pool, point)
    return np.stack([(point.plays.right & (times <= deadline)).mean(-1) for deadline in deadlines])
