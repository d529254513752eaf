"""From a sweep to a profile: what ``auto`` consults. A pool is drawn once and kept, so that calibration goes on where
it was interrupted; the profile holds how answers fall at each depth, the curves of what can be scored from the pool
with their intervals, and samples of the time that trajectories really took."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from fathom.budget import Meter
from fathom.costs import Costed, Costs
from fathom.errors import InputError, UsageError
from fathom.lab.datasets import Dataset
from fathom.lab.pool import Pool, load
from fathom.lab.progress import Progress
from fathom.lab.scoring import Point, baselines, powers, score
from fathom.lab.statistics import mean_interval
from fathom.lab.sweep import SweepOptions, open_sweep
from fathom.language.download import cache_directory
from fathom.language.engines.pace import machine
from fathom.planning.ability import Measured
from fathom.planning.cost import CostModel
from fathom.planning.population import Population
from fathom.planning.profile import Profile, Spread, digest_of
from fathom.reasoner import Reasoner
from fathom.records import Problem
from fathom.search import Direct, First
from fathom.team import in_form

__all__ = ["calibrate", "profile_of"]

LEAST_SAMPLES = 8  # a question: of fewer the shares of answers scatter too much to plan from
_TIMES = 400  # of trajectories that are kept


async def calibrate(
    model: Reasoner,
    uri: str,
    dataset: Dataset,
    directory: Path | None = None,
    *,
    samples: int = 16,
    seed: int = 0,
    observe: Callable[[Progress], None] = lambda progress: None,
) -> Profile:
    """Sample the model on the dataset, with reasoning and without, and make its profile.

    ``directory`` keeps the sweep (default: one of its own in the cache directory). Raises UsageError for fewer than
    eight samples, and what sweeps raise.
    """
    if samples < LEAST_SAMPLES:
        raise UsageError(f"a profile needs {LEAST_SAMPLES} samples a question or more, not {samples}")
    model = in_form(model, dataset.form)
    costs = await _costs(model, dataset)
    depths: tuple[int | None, ...] = (0, None) if costs.unit_tokens > 0 and costs.countable else (None,)
    options = SweepOptions(samples=samples, depths=depths, seed=seed)
    directory = directory or _directory(uri, dataset, seed)
    async with open_sweep(model, uri, dataset, directory, None, options, observe) as sweeper:
        await sweeper.run()
        sweeper.store.flush()
        pools = list(load(sweeper.store, sweeper.sweep, samples))
    return profile_of(pools, costs, dataset.name)


def _directory(uri: str, dataset: Dataset, seed: int) -> Path:
    name = hashlib.sha256(f"{uri}\n{dataset.name}\n{seed}".encode()).hexdigest()[:16]
    return cache_directory() / "calibration" / name


async def _costs(model: Reasoner, dataset: Dataset) -> Costs:
    """The model's own account of itself, on the first question."""
    session = await model.open(Problem.of(dataset.questions[0].prompt), Meter())
    try:
        told = session.costs if isinstance(session, Costed) else (Costs(session.label),)
    finally:
        await session.aclose()
    if len(told) != 1 or told[0] is None:
        raise UsageError(f"{model.name} is several models: calibrate each of them by itself")
    return told[0]


def profile_of(pools: Sequence[Pool], costs: Costs, dataset: str) -> Profile:
    """The profile of the pools of one sweep, one for each depth. Raises InputError where no question is whole."""
    if not pools:
        raise InputError(f"no question of {dataset} has all its samples yet: run the same command again")
    deepest = pools[-1]
    ended = deepest.samples.finished & (deepest.samples.steps > 0)
    depth = float(deepest.samples.steps[ended].mean()) if ended.any() else costs.depth
    return Profile(
        model=costs.model,
        digest=digest_of(costs),
        engine=costs.engine,
        machine=machine(),
        dataset=dataset,
        kind=costs.kind,
        questions=len(deepest),
        made=time.strftime("%Y-%m-%d", time.gmtime()),
        depth=max(1.0, depth),
        samples=tuple(_times(deepest, costs)),
        spreads=tuple(Spread(pool.depth, _kinds(pool)) for pool in pools),
        curves=tuple(curve for pool in pools for curve in _curves(pool, CostModel(costs))),
    )


def _kinds(pool: Pool) -> tuple[tuple[float, float, float], ...]:
    """How answers fall on each question: the right one, and each wrong one that could be read."""
    counted = []
    for code, right, parsed in zip(pool.samples.code, pool.samples.right, pool.samples.parsed, strict=True):
        wrong = [int(((code == c) & (right == 0)).sum()) for c in np.unique(code[(code >= 0) & parsed & (right == 0)])]
        counted.append((int(right.sum()), wrong, pool.width))
    return tuple((kind.weight, kind.right, kind.rival) for kind in Population.of(counted).kinds)


def _times(pool: Pool, costs: Costs) -> Iterator[tuple[int, int, float]]:
    """(width, depth, seconds) of trajectories, where the engine's pace was not measured itself."""
    if costs.unit_seconds:
        return
    width = min(pool.width + 1, costs.room or pool.width + 1)
    steps, seconds = pool.samples.tokens.ravel(), pool.samples.seconds.ravel()
    for at in range(0, len(steps), max(1, len(steps) // _TIMES)):
        yield width, int(steps[at]), float(seconds[at])


def _curves(pool: Pool, cost: CostModel) -> Iterator[Measured]:
    """Every baseline and strategy that the pool can score, at widths of powers of two."""
    points = [(f"vote(stop=never, width={p.width}", p) for p in baselines(pool) if p.strategy == "majority"]
    oracle = [(f"oracle(width={p.width}", p) for p in baselines(pool) if p.strategy == "oracle"]
    plays = score(pool, [Direct(depth=pool.depth), First(depth=pool.depth)], powers(pool.width))
    played = [(f"{p.strategy.partition('(')[0]}(" + f"width={p.width}" * (p.width > 1), p) for p in plays]
    for spec, point in (*points, *oracle, *played):
        yield _measured(spec, point, pool.depth, cost)


def _measured(spec: str, point: Point, depth: int | None, cost: CostModel) -> Measured:
    given = spec + ("" if depth is None else f", depth={depth}") + ")"
    found = mean_interval(point.right)
    seconds = cost.predict(point.width, depth, point.width).seconds
    label = given.replace("(, ", "(").replace("()", "")
    return Measured(
        label, point.width, depth, found.value, found.low, found.high, float(np.nanmean(point.tokens)), seconds
    )
