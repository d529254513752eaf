"""What engines have in common that run their model in this process, on a thread of its own.

They read prompts with the model's chat template, measure their pace at first use and keep it, and are closed at the
latest when the interpreter ends. How choices are advanced is each engine's own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from fathom.errors import LimitError, PromptTooLong, UsageError
from fathom.language.engines.base import EngineTraits, Pace, Prompt, Request, Span
from fathom.language.engines.chat_tokens import ChatTokenizer, Tokens
from fathom.language.engines.model_thread import ModelThread
from fathom.language.engines.pace import Measurement, kept, machine
from fathom.language.engines.threaded import ThreadedChoice, ThreadedGeneration

__all__ = ["CONTEXT", "WIDTH", "InProcessEngine", "at_least"]

CONTEXT = 16_384  # tokens of a text, and of what is kept of texts
WIDTH = 64


def at_least(least: int, **limits: int | None) -> None:
    """Raises LimitError, which names it, for a limit that is less; None is no limit."""
    for limit, value in limits.items():
        if value is not None and value < least:
            raise LimitError(limit, f"{limit} must be {least} or more, not {value}")


class InProcessEngine(ABC):
    """See ``fathom.language.engines.base.Engine``. ``worker`` owns the model."""

    def __init__(self, chat: ChatTokenizer, vocabulary: Tokens, worker: ModelThread, traits: EngineTraits) -> None:
        self._chat, self._vocabulary, self._traits = chat, vocabulary, traits
        self._length = traits.context_length or CONTEXT
        self._lock = worker.lock
        self._measurement: Measurement | None = None
        self._measuring = threading.Lock()
        self._close = weakref.finalize(self, worker.close)

    @property
    def traits(self) -> EngineTraits:
        """``room`` is an estimate until the pace was measured."""
        return self._traits

    @property
    def lock(self) -> threading.Lock:
        """Guards what choices have pending."""
        return self._lock

    def generate(self, request: Request) -> ThreadedGeneration:
        """Raises UsageError here, and PromptTooLong on entering the block, before anything is spent."""
        if request.n < 1 or request.max_tokens < 1:
            raise UsageError(f"n and max_tokens must be 1 or more, not {request.n} and {request.max_tokens}")
        return ThreadedGeneration(self, request)

    @abstractmethod
    async def start(self, generation: ThreadedGeneration, request: Request) -> Sequence[ThreadedChoice]:
        """Queue the choices of a generation."""

    @abstractmethod
    def forget(self, choices: Sequence[ThreadedChoice]) -> None:
        """These were closed by their reader; the lock is held."""

    def seed(self, request: Request) -> int:
        """That of its first choice: as asked, or drawn. Never negative."""
        return secrets.randbits(31) if request.seed is None else request.seed % 2**63

    async def count(self, prompt: Prompt) -> int:
        return len(self._chat.ids(prompt))

    def ids(self, prompt: Prompt) -> list[int]:
        """The prompt as token ids. Raises PromptTooLong."""
        return self._fitting(self._chat.ids(prompt))

    def ids_after(self, prompt: Prompt, text: str | Span) -> tuple[list[int], list[int]]:
        """The prompt as token ids, and a text that follows it. Raises PromptTooLong."""
        begin = self.ids(prompt)
        span = text if isinstance(text, Span) else Span(text)
        end = list(span.tokens) or self._vocabulary.tokenize(span.text)
        self._fitting([*begin, *end])
        return begin, end

    def _fitting(self, ids: list[int]) -> list[int]:
        if len(ids) >= self._length:
            raise PromptTooLong(
                f"the prompt has {len(ids)} tokens, and {self._traits.model} as opened here takes {self._length - 1} "
                "and one to answer with; shorten it, or open the model with a larger context"
            )
        return ids

    async def pace(self) -> Pace:
        """Measured at first use, in about 8 s on a slow machine, and kept per machine, model and library version.

        ``traits.room`` then is the smallest width that reaches 80 % of the best throughput.
        """
        measurement = await asyncio.to_thread(self._measured)
        return measurement.pace

    def _measured(self) -> Measurement:
        with self._measuring:
            if self._measurement is None:
                widest = min(self._traits.max_width or 1, 16)
                known = self._identity()
                known["settings"] = {**known["settings"], "max_width": widest}
                measurement = kept({"machine": machine(), **known}, lambda: self._measure(widest))
                self._adopt(measurement)
                self._traits = dataclasses.replace(self._traits, room=measurement.room)
                self._measurement = measurement
            return self._measurement

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """What tells this model, as it runs here, from others: ``model``, ``library``, ``settings``."""

    @abstractmethod
    def _measure(self, widest: int) -> Measurement:
        """Time the model up to a width; blocks."""

    @abstractmethod
    def _adopt(self, measurement: Measurement) -> None:
        """Go by this measurement from now on."""

    async def aclose(self) -> None:
        """Free everything. What still runs ends with ``Finish.FAILED``. Idempotent."""
        await asyncio.to_thread(self._close)
