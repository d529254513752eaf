"""An engine whose every sample is a span: what was asked, when it began to come, what it cost, how it ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from fathom import tracing
from fathom.language.engines.base import Engine, Finish, Generation, Piece, Request
from fathom.language.engines.wrapped import WrappedEngine, WrappedGeneration

if TYPE_CHECKING:
    from opentelemetry.trace import Span

__all__ = ["TracedEngine"]

FINISHES = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.CANCELLED: "cancelled", Finish.FAILED: "error"}


class TracedEngine(WrappedEngine):
    """An engine under tracing (`fathom.tracing`); ``provider`` is what its spans call the one who runs the model."""

    def __init__(self, engine: Engine, provider: str) -> None:
        super().__init__(engine)
        self._provider = provider

    def generate(self, request: Request) -> Generation:
        generation = self._engine.generate(request)
        return _Traced(generation, request, self._provider, self.traits.model) if tracing.active() else generation


class _Sample:
    """One choice's span, and what its pieces add up to."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self.began = time.monotonic()
        self.first: float | None = None
        self.read = self.reused = self.generated = 0

    def add(self, piece: Piece) -> None:
        if self.first is None:
            self.first = time.monotonic() - self.began
        self.read += piece.prompt_tokens + piece.reused_tokens
        self.reused += piece.reused_tokens
        self.generated += piece.tokens

    def end(self, finish: Finish, error: Exception | None) -> None:
        tracing.end(
            self.span,
            error,
            gen_ai__response__finish_reasons=(FINISHES[finish],),
            gen_ai__response__time_to_first_chunk=self.first,
            gen_ai__usage__input_tokens=self.read,
            gen_ai__usage__cache_read__input_tokens=self.reused,
            gen_ai__usage__output_tokens=self.generated,
        )


class _Traced(WrappedGeneration):
    """A generation with a span for each choice."""

    def __init__(self, generation: Generation, request: Request, provider: str, model: str) -> None:
        super().__init__(generation)
        self._request = request
        self._provider = provider
        self._model = model
        self._samples: dict[int, _Sample] = {}

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        request, sampling = self._request, self._request.sampling
        for index in range(request.n):
            span = tracing.begin(
                f"chat {self._model}",
                "client",
                gen_ai__operation__name="chat",
                gen_ai__provider__name=self._provider,
                gen_ai__request__model=self._model,
                gen_ai__request__max_tokens=request.max_tokens,
                gen_ai__request__seed=None if request.seed is None else request.seed + index,
                gen_ai__request__temperature=sampling.temperature,
                gen_ai__request__top_p=sampling.top_p,
                gen_ai__request__stream=request.stream,
            )
            self._samples[index] = _Sample(span)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for sample in self._samples.values():
            sample.end(Finish.CANCELLED, None)
        self._samples.clear()
        await super().__aexit__(*exc)

    def see(self, piece: Piece) -> None:
        sample = self._samples.get(piece.index)
        if sample is not None:
            sample.add(piece)
            if piece.finish is not None:
                self._samples.pop(piece.index).end(piece.finish, piece.error)
