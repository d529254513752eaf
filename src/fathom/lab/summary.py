"""What a pool says, in numbers with intervals: accuracy, tokens, time, arithmetic, money, calibration, and thresholds
that were tuned on one half of the questions and are reported on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
    "tuned",
]

THRESHOLDS = (0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
BINS = 10


def seconds_of(pool: Pool, point: Point) -> FloatArray:
    """Expected seconds of each question, (Q,).

    From the engine's measured pace where it has one: reading the prompt once, then its steps at this width. For a
    server, from the time that a step took on average while the pool was drawn.
    """
    pace = pool.sweep.facts.get("pace")
    if pace is not None:
        known = Pace(pace["read_seconds"], {int(w): s for w, s in pace["step_seconds"].items()})
        return np.asarray(pool.prompt_tokens * known.read_seconds + point.steps * known.step(point.width))
    samples = pool.samples
    each = np.median(samples.seconds / np.maximum(samples.tokens, 1), axis=1)
    return np.asarray(point.steps * each)


def flops_of(pool: Pool, point: Point) -> FloatArray:
    """Expected arithmetic of each question, (Q,): 2 per parameter and token, the prompt read once; or what was measured
    per supervision step. NaN where the model's size is unknown."""
    if pool.sweep.facts.get("unit_flops"):
        return np.asarray(point.tokens * float(pool.sweep.facts["unit_flops"]))
    if not pool.parameters:
        return np.full(len(pool), np.nan)
    return np.asarray(2.0 * pool.parameters * (point.tokens + pool.prompt_tokens))


def dollars_of(pool: Pool, point: Point) -> FloatArray:
    """Expected price of each question, (Q,), at the prices that the model was opened with; NaN where there are none."""
    said = pool.sweep.facts.get("price")
    if said is None:
        return np.full(len(pool), np.nan)
    price = Price(said["prompt"], said["completion"])
    return np.asarray((price.prompt * pool.prompt_tokens * point.width + price.completion * point.tokens) / 1e6)


@dataclass(frozen=True, slots=True)
class Row:
    """A strategy at a width, over all questions. ``per_right`` is tokens for each right answer."""

    strategy: str
    width: int
    accuracy: Interval
    tokens: float
    seconds: tuple[float, float]
    flops: float
    dollars: float | None
    per_right: float
    draws: int


def rows(pool: Pool, points: Sequence[Point]) -> list[Row]:
    """Each point over the pool's questions. ``seconds`` are the median and the 95th percentile over questions."""
    accuracies = mean_intervals(np.stack([point.right for point in points], axis=1))
    found = []
    for point, accuracy in zip(points, accuracies, strict=True):
        seconds, dollars = seconds_of(pool, point), dollars_of(pool, point)
        right = float(point.right.sum())
        found.append(
            Row(
                strategy=point.strategy,
                width=point.width,
                accuracy=accuracy,
                tokens=float(point.tokens.mean()),
                seconds=(float(np.quantile(seconds, 0.5)), float(np.quantile(seconds, 0.95))),
                flops=float(flops_of(pool, point).mean()),
                dollars=None if np.isnan(dollars).any() else float(dollars.mean()),
                per_right=float(point.tokens.sum()) / right if right else float("inf"),
                draws=point.draws,
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Versus:
    """A strategy against the majority of as many samples, paired. ``needed`` questions would settle the difference."""

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
            1 - float(p.tokens.sum() / majority.tokens.sum()),
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
    """The share of questions that each strategy answers rightly within each deadline, (D,), at the width that is best.

    The width is chosen on one half of the questions for each deadline, and what it does is reported on the other.
    """
    order = np.random.default_rng(seed).permutation(len(pool))
    ours, theirs = order[: len(pool) // 2], order[len(pool) // 2 :]
    found: dict[str, FloatArray] = {}
    for strategy in dict.fromkeys(point.strategy for point in points):
        having = [point for point in points if point.strategy == strategy]
        good = np.stack([p.right * (seconds_of(pool, p) <= deadlines[:, None]) for p in having])  # (K, D, Q)
        best = good[:, :, ours].mean(-1).argmax(0)
        found[strategy] = good[best, np.arange(len(deadlines))][:, theirs].mean(-1)
    return found
