"""How much slower a machine is than its measured pace is counted once, whoever found it out, and is known after a few
runs."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
import virtual_time

import fathom
from fathom import Meter, Problem
from fathom.language.engines.base import Pace
from fathom.language.engines.scripted import Latency, ScriptedEngine
from fathom.language.model import LanguageModel
from fathom.planning import learned
from fathom.planning.outlook import survey
from fathom.planning.plan import Candidate
from fathom.planning.scatter import rolling

TOLD = Pace(0.0, {1: 10.0, 16: 25.0})
LENGTH = 30


class Slow(ScriptedEngine):
    """An engine that is so many times slower than it says."""

    def __init__(self, slowness: float) -> None:
        latency = Latency(token=slowness * 10.0, crowding=0.1)
        say = lambda prompt, rng: "so " * (LENGTH - 1) + f"\\boxed{{{rng.randrange(3)}}}."  # noqa: E731
        super().__init__(say, latency=latency, parameters=7_000_000_000)  # so large that four samples are worth it
        self._traits = replace(self._traits, version="1")  # of a nameless version nothing is remembered

    async def pace(self) -> Pace:
        return TOLD


async def surveyed(model: LanguageModel) -> Candidate:
    await model.prepare()
    meter = Meter()
    session = await model.open(Problem.of("?"), meter)
    (candidate,) = survey(session, meter).candidates.values()
    await session.aclose()
    return candidate


async def errors(model: LanguageModel, strategy: str, seed: int) -> list[float]:
    """How far predicted seconds are off on some runs of four chains, one run after the other, relative to the real
    ones."""
    off = []
    for run in range(5):
        predicted, _ = rolling([LENGTH] * 4, 4, (await surveyed(model)).cost.paced)
        began = asyncio.get_running_loop().time()
        await fathom.asolve(model, "?", strategy=strategy, seed=seed + 100 * run)
        real = asyncio.get_running_loop().time() - began
        off.append(abs(predicted - real) / real)
    return off


@pytest.mark.parametrize("strategy", ["auto(width=4, worth=0)", "vote(width=4, stop=never)"])
@pytest.mark.parametrize("slowness", [2.0, 1.0])
def test_a_slower_machine_is_known_after_a_few_runs(slowness: float, strategy: str) -> None:
    seed = random.SystemRandom().randrange(10**6)
    model = LanguageModel(Slow(slowness))
    off = virtual_time.run(errors(model, strategy, seed))
    assert max(off[3:]) <= 0.15, off
    if "auto" in strategy:  # and by a process that starts anew
        learned.save()
        learned._known.clear()
        candidate = virtual_time.run(surveyed(LanguageModel(Slow(slowness))))
        assert candidate.cost.costs.drag is None
        assert candidate.cost.drag == pytest.approx(slowness, rel=0.15)
