"""Pools that are drawn from the scripted engine, through the same sweep as any model's."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import virtual_time

from fathom.lab.datasets.base import Dataset, Question, exactly
from fathom.lab.pool import Pool, load
from fathom.lab.sweep import SweepOptions, open_sweep
from fathom.language.engines.base import Prompt
from fathom.language.engines.scripted import Latency, ScriptedEngine
from fathom.language.model import LanguageModel


@pytest.fixture
def fresh() -> int:
    """A number that no code can know beforehand."""
    return random.SystemRandom().randrange(1000, 10**6)


def rambling(fresh: int) -> Callable[[Prompt, random.Random], str]:
    """A script that thinks for a while and gives one of several answers, or now and then none."""

    def write(prompt: Prompt, rng: random.Random) -> str:
        question = prompt.messages[-1].content
        own = random.Random(f"{fresh} {question}")
        answer = rng.choices([f"{own.randrange(90)}" for _ in range(4)], [own.random() ** 2 for _ in range(4)])[0]
        if prompt.prefix_text.endswith("\\boxed{"):
            return answer + "}."
        words = " ".join(rng.choices(("so", "then", "hmm"), k=rng.randrange(1, 25)))
        return words if rng.random() < 0.1 else f"{words} \\boxed{{{answer}}}."

    return write


@pytest.fixture
def rambler(fresh: int) -> LanguageModel:
    """A model of the script above, a token a second."""
    return LanguageModel(ScriptedEngine(rambling(fresh), latency=Latency(token=1.0)))


def sums(fresh: int, count: int) -> Dataset:
    """Questions with references that the rambling model gets right now and then."""
    questions = []
    for number in range(count):
        prompt = f"question {number} of {fresh}?"
        own = random.Random(f"{fresh} {prompt}")
        questions.append(Question(str(number), prompt, reference := f"{own.randrange(90)}", exactly(reference)))
    return Dataset(f"sums {fresh}", questions)


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
