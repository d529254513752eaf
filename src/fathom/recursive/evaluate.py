"""Measuring a checkpoint over the plane of depth and width: accuracy, coverage, and what each way to select gains.

Intervals are over inputs, which are what is sampled from a population: trajectories of one input are not independent.
Proportions of inputs get Wilson intervals, means over inputs (accuracy of samples, coverage) bootstrap intervals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fathom import intervals
from fathom.recursive.model import RecursiveModel
from fathom.recursive.rollout import trajectories
from fathom.recursive.tasks.base import Task

__all__ = ["Estimate", "Point", "bootstrap", "evaluate", "vote", "wilson"]


class Estimate(intervals.Interval):
    """A figure with its 95 % interval, told in percent without the sign."""

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True)
class Point:
    """One point of the plane. All but ``distinct`` are shares; the selections pick one of ``width`` answers an
    input.
    """

    depth: int
    width: int
    inputs: int
    accuracy: Estimate
    """Of single samples."""
    coverage: Estimate
    """Distinct right answers found, of all that there are."""
    attainable: Estimate
    """Distinct right answers found, of as many as ``width`` samples could have found."""
    distinct: float
    """Different answers an input, right or wrong."""
    vote: Estimate
    value: Estimate
    halt: Estimate
    disputed: int
    """Inputs whose samples do not all give one answer: where it matters how one is chosen."""
    disputed_vote: Estimate | None
    disputed_value: Estimate | None
    verifier: Estimate
    """Whether any answer is right: selection by the task's own constraints, and the oracle's bound where those are the
    truth.
    """


def wilson(successes: int, trials: int) -> Estimate:
    """A proportion with its Wilson score interval."""
    found = intervals.wilson(successes, trials)
    return Estimate(found.value, found.low, found.high)


def bootstrap(values: Tensor, resamples: int = 1000, seed: int = 0) -> Estimate:
    """A mean over inputs, (N,), with its percentile bootstrap interval; Wilson's where each is 0 or 1.

    The bootstrap of a proportion near 1 is too narrow: of nothing but ones, it is empty.
    """
    values = values.double().cpu()
    if bool(((values == 0) | (values == 1)).all()):
        return wilson(int(values.sum()), len(values))
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(values), (resamples, len(values)), generator=generator)
    low, high = torch.quantile(values[chosen].mean(-1), torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(float(values.mean()), low, high)


def vote(answers: Sequence[bytes], scores: Sequence[float]) -> int:
    """The index of the most frequent answer's best-scored copy; ties between answers go to the higher score."""
    tally = Counter(answers)
    return max(range(len(answers)), key=lambda i: (tally[answers[i]], scores[i], -i))


def evaluate(
    model: RecursiveModel,
    task: Task,
    x: Tensor,
    *,
    depths: Sequence[int],
    widths: Sequence[int],
    seed: int = 0,
    solutions: Tensor | None = None,
) -> list[Point]:
    """The plane of ``model`` on inputs ``x``, at every depth and width. ``solutions`` is ``task.count(x)``, where known
    already.
    """
    solutions = task.count(x.cpu()) if solutions is None else solutions
    widest = max(widths)
    rolled = trajectories(model, x, depths=tuple(depths), width=widest, seed=seed)
    points = []
    for depth in depths:
        answers, halts, values = rolled[depth]
        right = task.valid(x.repeat_interleave(widest, 0), answers.flatten(0, 1)).view(len(x), widest)
        keys = [[bytes(a) for a in row] for row in answers.to("cpu", torch.uint8).numpy()]
        points += [_point(depth, width, keys, right.cpu(), halts.cpu(), values.cpu(), solutions) for width in widths]
    return points


def _point(
    depth: int, width: int, keys: list[list[bytes]], right: Tensor, halts: Tensor, values: Tensor, solutions: Tensor
) -> Point:
    inputs, found, distinct, voted = len(keys), [], [], []
    for row, good, value in zip(keys, right.tolist(), values.tolist(), strict=True):
        found.append(len({key for key, ok in zip(row[:width], good, strict=False) if ok}))
        distinct.append(len(set(row[:width])))
        voted.append(good[vote(row[:width], value[:width])])
    right, halts, values = right[:, :width], halts[:, :width], values[:, :width]
    discovered, disputed = torch.tensor(found), torch.tensor(distinct) > 1

    def chosen(scores: Tensor) -> Tensor:
        return right.gather(1, scores.argmax(-1, keepdim=True))[:, 0]

    def share(good: Tensor) -> Estimate:
        return wilson(int(good.sum()), len(good))

    by_vote, by_value = torch.tensor(voted), chosen(values)
    any_disputed = bool(disputed.any())
    return Point(
        depth=depth,
        width=width,
        inputs=inputs,
        accuracy=bootstrap(right.float().mean(-1)),
        coverage=bootstrap(discovered / solutions.clamp(min=1)),
        attainable=bootstrap(discovered / solutions.clamp(1, width)),
        distinct=sum(distinct) / inputs,
        vote=share(by_vote),
        value=share(by_value),
        halt=share(chosen(halts)),
        disputed=int(disputed.sum()),
        disputed_vote=share(by_vote[disputed]) if any_disputed else None,
        disputed_value=share(by_value[disputed]) if any_disputed else None,
        verifier=share(right.any(-1)),
    )
