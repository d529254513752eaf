"""A small model played from a script in virtual time: as slow as the embedded one on two slow cores, and cheap to run.

A question is known by its number: how often the model gets it right is drawn for it, evenly between never and always; a
third of what is wrong is one and the same wrong answer. Without reasoning half as many are right, and so are of chains
that are cut, however much of them was written, as was measured of the embedded model. The greedy answer is what a vote
of eight samples would say: that of the embedded model is right as often as votes of 8 to 16 are, with reasoning and
without. Lengths of chains are log-normal, and scatter among and within questions as those of the embedded model do on
generated arithmetic (``fathom.costs``).
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import selectors
from collections import Counter
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar
from unittest.mock import patch

import fathom
from fathom.costs import DIFFER, SPREAD
from fathom.language.engines.base import EngineCapability, EngineTraits, Prompt
from fathom.language.engines.scripted import Latency, ScriptedEngine
from fathom.language.model import LanguageModel
from fathom.records import Result

T = TypeVar("T")
TOKENS = 44
LATENCY = Latency(token=0.096, crowding=0.315)
GREEDY = random.Random(0).random()
"""What a script's generator begins with at temperature 0."""
LIKELIEST = 8
"""Samples whose vote the greedy answer is worth."""


class Embedded(ScriptedEngine):
    """A script that a greedy sample costs no more than another, as it is in process."""

    @property
    def traits(self) -> EngineTraits:
        return replace(self._traits, capabilities=self._traits.capabilities | {EngineCapability.TOKENS})


def share(number: int) -> float:
    """How often a whole chain on this question is right."""
    return random.Random(f"share {number}").random()


def right(number: int) -> str:
    """The right answer."""
    return str(1000 + number)


def _answer(number: int, quality: float, rng: random.Random, greedy: bool) -> str:
    if greedy:
        ((answer, _),) = Counter(_answer(number, quality, rng, False) for _ in range(LIKELIEST)).most_common(1)
        return answer
    chance = quality * share(number)
    if rng.random() < chance:
        return right(number)
    return str(5000 + number) if rng.random() < 1 / 3 else str(rng.randrange(10**4, 10**6))


def write(prompt: Prompt, rng: random.Random) -> str:
    """One turn of the model."""
    found = re.search(r"question (\d+)", prompt.messages[-1].content)
    assert found is not None
    number, first = int(found[1]), rng.random()
    rng = random.Random(f"{number} {first}")  # greedy answers to different questions differ, too
    if prompt.prefix_text.endswith("\\boxed{"):
        return _answer(number, 0.5, rng, first == GREEDY) + "}."
    usual = TOKENS * math.exp(random.Random(f"length {number}").gauss(0.0, DIFFER))
    length = max(4, round(usual * math.exp(rng.gauss(0.0, SPREAD))))
    return "so " * (length - 1) + f"\\boxed{{{_answer(number, 1.0, rng, first == GREEDY)}}}."


def model() -> LanguageModel:
    return LanguageModel(Embedded(write, latency=LATENCY, room=16, parameters=500_000_000))


async def solve(one: LanguageModel, number: int, strategy: str, seconds: float, seed: int) -> Result:
    """Answer a question under a deadline."""
    return await fathom.asolve(one, f"question {number}", strategy=strategy, within=seconds, seed=seed)


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing: the loop's clock is moved on instead."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        self.loop.now += 1e-9 if ready or not timeout else timeout + 1e-9  # no clock shows the same time twice
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Time passes only when there is nothing else to do. Nothing on it may wait for threads or sockets."""

    def __init__(self) -> None:
        selector = _Jumping()
        selector.loop = self
        self.now = 0.0
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run work to its end in virtual time: whoever asks for the time is told the loop's."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner, patch("time.monotonic", runner.get_loop().time):
        return runner.run(work)
