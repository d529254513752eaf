"""What inference compute is worth in model size: several models' sweeps on the same questions, against one cost.

Every (model, strategy, width) is a point; the *frontier* are the points that no cheaper one beats. The exchange rate of
a smaller model against a larger one is in ``rates``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fathom.errors import InputError, UsageError
from fathom.lab.pool import Pool, load
from fathom.lab.records import Asked
from fathom.lab.scoring import Point, baselines, default_strategies, score
from fathom.lab.statistics import FloatArray, Interval, mean_intervals
from fathom.lab.store import Store
from fathom.lab.summary import dollars_of, flops_of, seconds_of

__all__ = ["COSTS", "Contender", "Mark", "contenders", "frontier"]

COSTS: Mapping[str, Callable[[Pool, Point], FloatArray]] = {
    "flops": flops_of,
    "seconds": seconds_of,
    "dollars": dollars_of,
}
"""What a question may cost, and how it is found."""


@dataclass(frozen=True, eq=False)
class Contender:
    """One sweep's pools, one for each depth, and all their points: (the pool, the point) pairs. The oracle is none.

    ``name`` is the model's where no other sweep is of it, else the sweep's. ``size`` is what models are compared by:
    parameters, or the arithmetic of a greedy answer, whichever is known of all that are compared.
    """

    name: str
    size: float
    pools: tuple[Pool, ...]
    points: tuple[tuple[Pool, Point], ...]

    @property
    def greedy(self) -> tuple[Pool, Point]:
        """The plain answer, at the largest depth."""
        return next((pool, point) for pool, point in self.points[::-1] if point.strategy == "greedy")


@dataclass(frozen=True, slots=True)
class Mark:
    """A point on the plane of cost and accuracy. ``on_frontier``: no point costs less and is right as often."""

    model: str
    strategy: str
    width: int
    depth: int | None
    cost: float
    accuracy: Interval
    on_frontier: bool


@dataclass(frozen=True, eq=False)
class _Swept:
    """A sweep as it was read: where from, its questions by number, and its pools by depth."""

    directory: Path
    asked: Mapping[int, Asked]
    pools: tuple[Pool, ...]

    @property
    def sweep(self) -> str:
        return self.pools[0].sweep.name

    @property
    def model(self) -> str:
        return self.pools[0].sweep.terms.model

    @property
    def identity(self) -> tuple[str, str]:
        """The model, and its file: what several sweeps may be of."""
        return self.model, self.pools[0].sweep.terms.model_hash


def contenders(directories: Sequence[Path | str]) -> list[Contender]:
    """The sweeps in these directories, those of smaller models first, on the questions that all of them have.

    Raises UsageError where they were not asked the same questions, where they are all of one model, and where it is not
    known which model is the smaller one; InputError where a directory holds nothing.
    """
    swept = [one for directory in dict.fromkeys(Path(d).resolve() for d in directories) for one in _read(directory)]
    if len({one.identity for one in swept}) < 2:
        raise UsageError(
            f"a comparison needs sweeps of two models at least, and these are all of {swept[0].model}: give another "
            f"directory, or see what one sweep says with fathom report"
        )
    _refuse_different(swept)
    shared = set.intersection(*(set(pool.questions) for one in swept for pool in one.pools))
    if not shared:
        raise UsageError("no question has been answered by all of these models yet: go on with their sweeps")
    found = []
    for one, name in zip(swept, _names(swept), strict=True):
        own = tuple(_only(pool, shared) for pool in one.pools)
        points = tuple(
            (pool, p)
            for pool in own
            for p in [*baselines(pool), *score(pool, default_strategies(pool))]
            if p.strategy != "oracle"
        )
        found.append((one, Contender(name, math.nan, own, points)))
    return _by_size(found)


def _read(directory: Path) -> Iterator[_Swept]:
    empty = True
    with Store(directory) as store:
        for sweep in store.sweeps():
            if pools := tuple(load(store, sweep)):
                empty = False
                yield _Swept(directory, {asked.number: asked for asked in store.questions(sweep.id)}, pools)
    if empty:
        raise InputError(f"{directory} holds no question yet that has all its samples")


def _refuse_different(swept: Sequence[_Swept]) -> None:
    """Raise UsageError where two sweeps were not asked the same."""
    datasets = {one.pools[0].sweep.terms.dataset for one in swept}
    if len(datasets) > 1:
        raise UsageError(f"these sweeps are of different questions: {', '.join(sorted(datasets))}; compare one dataset")
    for one in swept[1:]:
        for number in one.asked.keys() & swept[0].asked.keys():
            was, now = swept[0].asked[number], one.asked[number]
            if (was.prompt, was.reference) != (now.prompt, now.reference):
                raise UsageError(
                    f"these sweeps are of different questions: number {number} is {was.prompt!r:.100} (answer "
                    f"{was.reference!r:.40}) in {swept[0].sweep!r} and {now.prompt!r:.100} (answer "
                    f"{now.reference!r:.40}) in {one.sweep!r}; sweep both models on one dataset and seed"
                )


def _names(swept: Sequence[_Swept]) -> list[str]:
    """What each sweep is called: by its model where that is enough, else by its name, with the directory if need be."""
    models, sweeps = Counter(one.model for one in swept), Counter(one.sweep for one in swept)
    return [
        one.model if models[one.model] == 1
        else one.sweep if sweeps[one.sweep] == 1
        else f"{one.sweep} ({one.directory.name})"
        for one in swept
    ]  # fmt: skip


def _by_size(found: Sequence[tuple[_Swept, Contender]]) -> list[Contender]:
    """The contenders with their sizes, smallest first; sweeps of one model are of one size."""
    known = all(contender.pools[0].parameters for _, contender in found)
    sizes: dict[tuple[str, str], float] = {}
    for one, contender in found:
        pool, greedy = contender.greedy
        size = pool.parameters if known else float(flops_of(pool, greedy).mean())
        if not math.isfinite(size):
            raise UsageError(
                f"which model is the smaller one is not known: neither the parameters of {contender.name} nor its "
                f"arithmetic are in its sweep; sweep it in process (gguf:, hf:, recursive:), where they can be seen"
            )
        sizes.setdefault(one.identity, size)
    sized = [replace(contender, size=sizes[one.identity]) for one, contender in found]
    return sorted(sized, key=lambda contender: contender.size)


def _only(pool: Pool, questions: set[int]) -> Pool:
    return pool.some([at for at, question in enumerate(pool.questions) if question in questions])


def frontier(found: Sequence[Contender], cost: str) -> list[Mark]:
    """All points of all models under one cost, cheapest first. Points whose cost is unknown are left out."""
    rows = [(c.name, pool, p, float(COSTS[cost](pool, p).mean())) for c in found for pool, p in c.points]
    rows = sorted((row for row in rows if math.isfinite(row[3])), key=lambda row: (row[3], -row[2].right.mean()))
    if not rows:
        return []
    accuracies = mean_intervals(np.stack([p.right for _, _, p, _ in rows], axis=1))
    marks, best = [], -1.0
    for (name, pool, p, spent), accuracy in zip(rows, accuracies, strict=True):
        marks.append(Mark(name, p.strategy, p.width, pool.depth, spent, accuracy, accuracy.value > best))
        best = max(best, accuracy.value)
    return marks
