"""The plain completion: what the model itself answers, passed on as it comes.

It goes to the engine and not through a search, since there is nothing to weigh: the prompt is sent as it is, and every
piece can be shown at once. The budget holds all the same: tokens are leased, and at the deadline the text so far is the
answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fathom.budget import Lease, Meter
from fathom.errors import CapabilityError, EngineError, NoAnswer
from fathom.language.charging import charge, cut_off
from fathom.language.choice import Choice
from fathom.language.engines.base import Finish, Generation, Piece, Prompt, Request
from fathom.records import StopReason
from fathom.search.driver import MARGIN
from fathom.serve.asking import Ask
from fathom.serve.models import overlaid
from fathom.serve.wire import Report

__all__ = ["Plain"]


class Plain:
    """One plain completion under way: ``async with``, then iterate over its pieces; ``choices`` is what came so far."""

    def __init__(self, ask: Ask, meter: Meter, *, stream: bool, most_seconds: float) -> None:
        behind = ask.served.first
        assert behind is not None
        self.ask = ask
        self.meter = meter
        self.engine = behind.model.engine
        self._sampling = behind.drawn if ask.sampling is None else overlaid(behind.drawn, ask.sampling)
        self.stream = stream or meter.budget.seconds is not None
        self.choices = [Choice() for _ in range(ask.n)]
        self.stopped = StopReason.EXHAUSTED
        self._most_seconds = most_seconds

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """What comes, as it comes. Raises EngineError for a choice that failed, NoAnswer where nothing came in time."""
        ask, meter = self.ask, self.meter
        prompt, price = Prompt(ask.messages, tools=ask.tools), self.engine.traits.price
        read = prompt.guessed_tokens if price is not None else 0
        with meter.lease(ask.n * ask.max_tokens, prompt_tokens=read, price=price) as lease:
            if lease.tokens < ask.n:
                raise NoAnswer(f"the budget ({lease.refused}) leaves no token for an answer; allow more")
            request = Request(
                prompt,
                n=ask.n,
                max_tokens=min(ask.max_tokens, lease.tokens // ask.n),
                sampling=self._sampling,
                seed=ask.seed,
                stream=self.stream,
            )
            meter.observe(width=ask.n)
            async with self.engine.generate(request) as generation, self._until_deadline(generation):
                try:
                    async for piece in generation:
                        self._take(piece, lease)
                        yield piece
                finally:
                    if still := [index for index, choice in enumerate(self.choices) if choice.finish is None]:
                        await cut_off(generation, still, lambda piece: self._count(piece, lease))
        if self.stopped is StopReason.DEADLINE and not any(choice.span.text for choice in self.choices):
            raise NoAnswer(f"the deadline came before the first token, after {meter.elapsed:.2f} s; allow more")

    def _count(self, piece: Piece, lease: Lease) -> Choice:
        choice = self.choices[piece.index]
        choice.add(piece)
        charge(lease, "sample", piece, seen=choice.tokens, parameters=self.engine.traits.parameters)
        return choice

    def _take(self, piece: Piece, lease: Lease) -> None:
        choice = self._count(piece, lease)
        self.meter.observe(depth=choice.tokens)
        if self.ask.top_logprobs is not None and piece.text and not choice.logprobs:
            raise CapabilityError(f"{self.ask.served.id} told no log-probabilities: its server has none")
        if piece.finish is Finish.FAILED:
            raise piece.error or EngineError("the model failed")

    @asynccontextmanager
    async def _until_deadline(self, generation: Generation) -> AsyncGenerator[None, None]:
        def end() -> None:
            self.stopped = StopReason.DEADLINE
            for index in range(self.ask.n):
                generation.cancel(index)

        left = min(self.meter.seconds_left - MARGIN, self._most_seconds - self.meter.elapsed)
        timer = asyncio.get_running_loop().call_later(max(0.0, left), end)
        try:
            yield
        finally:
            timer.cancel()

    @property
    def report(self) -> Report:
        """The receipt; the answer is what the reply itself says."""
        return Report(
            strategy="direct",
            stopped=self.stopped.value,
            model=self.ask.served.id,
            limits=self.meter.limits,
            seed=self.ask.seed,
            spent=self.meter.spent,
            valid=self._valid,
        )

    @property
    def _valid(self) -> bool | None:
        """Whether every answer in words is of the shape that was asked for; None where any would do."""
        schema = self.ask.schema
        if schema is None:
            return None
        return all(choice.calls or schema.allows("".join(choice.text)) for choice in self.choices)
