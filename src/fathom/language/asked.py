"""One question as it is put to one model: its words, how they are sampled, and what an answer to it is."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from fathom.budget import Lease, Meter
from fathom.language.engines.base import Sampling, Span
from fathom.language.prompts import Form
from fathom.language.structured import read_calls
from fathom.records import Message, ToolCall, Tools

__all__ = ["Asked", "State"]

TELLING = 0.02
"""Seconds before the deadline at which an answer's meaning is not made out any more: algebra in another thread holds
the interpreter for 5 ms at a time, and the answer has still to be told."""


@dataclass(frozen=True, slots=True)
class State:
    """What a trajectory keeps for itself: its text as spans with token ids, and the lease that still pays for it."""

    spans: tuple[Span, ...] = ()
    lease: Lease | None = None
    revises: tuple[Message, ...] = ()
    direct: bool = False  # no reasoning was wanted, and the model is asked accordingly
    greedy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The question: ``messages`` ask for reasoning, ``direct`` for an answer without, ``prompt_tokens`` is the length
    of the first, ``name`` what receipts call the model. Trajectory i is drawn with ``seed`` + i."""

    name: str
    messages: tuple[Message, ...]
    direct: tuple[Message, ...]
    form: Form
    sampling: Sampling
    seed: int
    prompt_tokens: int
    tools: Tools | None = None

    async def read(self, text: str, meter: Meter, calls: Sequence[ToolCall] = ()) -> tuple[str | None, str, bool]:
        """``answer``, ``key`` and ``parsed`` of a trajectory with this text and these calls of tools.

        An answer whose meaning cannot be made out in the time that is left is one all the same.
        """
        if calls:
            return read_calls(calls, self.tools)
        answer = self.form.extract(text)
        if answer is None:
            return None, "", True
        if not self.form.ponders(answer):
            return answer, *self.form.meaning(answer)
        if (left := meter.seconds_left - TELLING) > 0:
            with suppress(TimeoutError):
                meaning = asyncio.to_thread(self.form.meaning, answer)
                return answer, *await asyncio.wait_for(meaning, left if left < math.inf else None)
        return answer, self.form.unfinished(answer)[1], False
