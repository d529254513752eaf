"""An engine around another one: it passes on what is asked of it, and adds one thing of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Self

from fathom.language.engines.base import Engine, EngineTraits, Generation, Pace, Piece, Prompt, Request

__all__ = ["WrappedEngine", "WrappedGeneration"]


class WrappedEngine:
    """See ``fathom.language.engines.base.Engine``. Closing it closes the other."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def traits(self) -> EngineTraits:
        return self._engine.traits

    def generate(self, request: Request) -> Generation:
        return self._engine.generate(request)

    async def count(self, prompt: Prompt) -> int | None:
        return await self._engine.count(prompt)

    async def pace(self) -> Pace | None:
        return await self._engine.pace()

    async def warm(self, prompt: Prompt) -> None:
        await self._engine.warm(prompt)

    async def aclose(self) -> None:
        await self._engine.aclose()


class WrappedGeneration:
    """See ``fathom.language.engines.base.Generation``. Every piece is seen before it is given on."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    async def __aenter__(self) -> Self:
        await self._generation.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._generation.__aexit__(*exc)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        async for piece in self._generation:
            self.see(piece)
            yield piece

    def see(self, piece: Piece) -> None:
        """A piece comes through."""

    def cancel(self, index: int) -> None:
        self._generation.cancel(index)
