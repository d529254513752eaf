"""Pools that are drawn from the scripted engine, through the same sweep as any model's."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import virtual_time
from rambling import rambling, sums

from fathom.lab.pool import Pool, load
from fathom.lab.sweep import SweepOptions, open_sweep
from fathom.language.engines.scripted import Latency, ScriptedEngine
from fathom.language.model import LanguageModel


@pytest.fixture
def fresh() -> int:
    """A number that no code can know beforehand."""
    return random.SystemRandom().randrange(1000, 10**6)


@pytest.fixture
def rambler(fresh: int) -> LanguageModel:
    """A model of the script above, a token a second."""
    return LanguageModel(ScriptedEngine(rambling(fresh), latency=Latency(token=1.0)))


@pytest.fixture
def pools(tmp_path: Path, fresh: int, rambler: LanguageModel) -> Callable[..., list[Pool]]:
    """Sweeps the rambling model in virtual time; the pools by depth."""

    def make(count: int = 12, **options: Any) -> list[Pool]:
        async def sweep() -> list[Pool]:
            dataset, said = sums(fresh, count), SweepOptions(**options)
            async with open_sweep(rambler, "scripted", dataset, tmp_path / "sweep", "s", said) as sweeper:
                await sweeper.run()
                return list(load(sweeper.store, sweeper.sweep))

        return virtual_time.run(sweep())

    return make
