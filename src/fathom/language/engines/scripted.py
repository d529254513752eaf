"""A model without weights: what it says comes from a script, how long it takes from a latency model.

It plays through exactly the same code as a real model, so that searches, budgets, deadlines and cancellation can be
tested in milliseconds, with any accuracy that a test wants. A word of the script, with the white space before it, is a
token. The same seed gives the same text whatever else runs.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Self

from fathom.errors import EngineError
from fathom.language.engines.base import (
    Engine,
    EngineCapability,
    EngineTraits,
    Finish,
    Generation,
    Pace,
    Piece,
    Price,
    Prompt,
    Request,
)

__all__ = ["Latency", "Script", "ScriptedEngine", "answers"]

Script = Callable[[Prompt, random.Random], str]
"""Writes one whole assistant turn, given the prompt and a generator seeded for the choice."""

_WORD = re.compile(r"\s*\S+|\s+$")


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds before the first token, per token, and how much slower a step gets per further choice that runs."""

    first: float = 0.0
    token: float = 0.0
    crowding: float = 0.0


def answers(weights: Mapping[str, float], steps: int = 3) -> Script:
    """A script that reasons for ``steps`` lines and then gives an answer drawn by weight, in a box.

    Made to conclude early, it draws as well: what it says continues the prompt's prefix.
    """
    choices, shares = list(weights), list(weights.values())

    def write(prompt: Prompt, rng: random.Random) -> str:
        answer = rng.choices(choices, shares)[0]
        if prompt.prefix_text.endswith("\\boxed{"):
            return answer + "}."
        lines = [f"Step {i + 1}: consider case {rng.randrange(1000)} of it." for i in range(steps)]
        return "\n\n".join([*lines, f"The answer is \\boxed{{{answer}}}."])

    return write


class ScriptedEngine(Engine):
    """Plays a script. ``fail`` gives the error of a choice, by its seed, or None for it to succeed. ``probability`` is
    the model's own of a word that it writes; without one it is drawn."""

    def __init__(
        self,
        script: Script | Mapping[str, float],
        *,
        latency: Latency | None = None,
        room: int | None = None,
        max_width: int | None = None,
        context_length: int | None = 4096,
        price: Price | None = None,
        parameters: int = 1_000_000,
        name: str = "scripted",
        fail: Callable[[int], EngineError | None] = lambda seed: None,
        probability: Callable[[str], float] | None = None,
    ) -> None:
        self.script: Script = answers(script) if isinstance(script, Mapping) else script
        self.latency = latency or Latency()
        self.fail = fail
        self.probability = probability
        self.running = 0
        self.cancelled = 0
        capabilities = {
            EngineCapability.LOGPROBS,
            EngineCapability.PREFIX,
            EngineCapability.MANY,
            EngineCapability.SEED,
        }
        self._traits = EngineTraits(
            model=name,
            context_length=context_length,
            capabilities=frozenset(capabilities),
            max_width=max_width,
            room=room,
            parameters=parameters,
            bytes_per_token=1024,
            price=price,
        )

    @property
    def traits(self) -> EngineTraits:
        return self._traits

    def generate(self, request: Request) -> Generation:
        return _Playing(self, request)

    async def count(self, prompt: Prompt) -> int | None:
        return sum(len(_WORD.findall(m.content)) + 1 for m in prompt.messages) + len(_WORD.findall(prompt.prefix_text))

    async def pace(self) -> Pace | None:
        slow = self.latency
        if not (slow.token or slow.first):
            return None
        widths = (1, 2, 4, 8, 16)
        return Pace(0.0, {w: slow.token * (1 + slow.crowding * (w - 1)) for w in widths})

    async def warm(self, prompt: Prompt) -> None:
        """Nothing to read ahead."""

    async def aclose(self) -> None:
        """Nothing to free."""


class _Playing(Generation):
    """One request being played: every choice in a task of its own, pieces through one queue."""

    def __init__(self, engine: ScriptedEngine, request: Request) -> None:
        self._engine = engine
        self._request = request
        self._pieces: deque[Piece] = deque()
        self._wake = asyncio.Event()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._open = set(range(request.n))
        self._broken: Exception | None = None

    async def __aenter__(self) -> Self:
        for index in range(self._request.n):
            self._tasks[index] = asyncio.create_task(self._play(index))
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        while self._open or self._pieces:
            while self._pieces:
                yield self._pieces.popleft()
            if self._broken is not None:
                raise self._broken
            if self._open:
                self._wake.clear()
                await self._wake.wait()

    def cancel(self, index: int) -> None:
        if index in self._open:
            self._engine.cancelled += 1
            self._tasks[index].cancel()
            self._end(index, Finish.CANCELLED)

    def _end(self, index: int, finish: Finish, error: EngineError | None = None, stopped_by: str | None = None) -> None:
        self._open.discard(index)
        self._put(Piece(index, finish=finish, error=error, stopped_by=stopped_by))

    def _put(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self._wake.set()

    async def _play(self, index: int) -> None:
        engine, request = self._engine, self._request
        seed = (request.seed or 0) + index
        rng = random.Random(seed if request.sampling.temperature != 0 else 0)
        prompt_tokens = await engine.count(request.prompt) or 0
        first = index == 0
        self._put(Piece(index, prompt_tokens=prompt_tokens * first, reused_tokens=prompt_tokens * (not first)))
        engine.running += 1
        try:
            await asyncio.sleep(engine.latency.first)
            if (error := engine.fail(seed)) is not None:
                self._end(index, Finish.FAILED, error)
                return
            words = _WORD.findall(engine.script(request.prompt, rng))
            text = ""
            for word in words[: request.max_tokens]:
                if engine.latency.token:
                    await asyncio.sleep(engine.latency.token * (1 + engine.latency.crowding * (engine.running - 1)))
                text += word
                stop, met = min(((at, s) for s in request.sampling.stop if (at := text.find(s)) >= 0), default=(-1, ""))
                probability = engine.probability(word) if engine.probability else 0.5 + 0.5 * rng.random()
                logprobs = (math.log(probability),) if request.sampling.logprobs else ()
                count = request.sampling.top_logprobs
                top = tuple(_top(word, logprob, count) for logprob in logprobs) if count else ()
                shown = word if stop < 0 else word[: max(0, len(word) - (len(text) - stop))]
                spelled = (word.encode(),) if logprobs else ()
                self._put(Piece(index, text=shown, tokens=1, logprobs=logprobs, top_logprobs=top, spelled=spelled))
                if stop >= 0:
                    self._end(index, Finish.STOP, stopped_by=met)
                    return
            whole = len(words) <= request.max_tokens
            self._end(index, Finish.STOP if whole else Finish.LENGTH, stopped_by="" if whole else None)
        except Exception as error:  # the script's own, whoever reads it
            self._broken = error
            self._wake.set()
        finally:
            engine.running -= 1


def _top(word: str, logprob: float, count: int) -> tuple[tuple[str, float], ...]:
    """The likeliest tokens: the word itself, and others that share evenly in most of what is left."""
    other = math.log(max(1e-9, 0.9 * (1 - math.exp(logprob)) / max(1, count - 1)))
    return ((word, logprob), *((f" other{k}", other) for k in range(1, count)))
