"""A running request on the embedded engine, as its reader sees it.

The worker puts what is new into its choices and wakes the reader at most once a step; the reader takes it when it
comes round, in one piece per choice, however many steps it missed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Self

from fathom.language.engines.base import Finish, Piece, Request
from fathom.language.engines.llama_choice import Choice

if TYPE_CHECKING:
    from fathom.language.engines.llama import LlamaEngine

__all__ = ["LlamaGeneration"]


class LlamaGeneration:
    """A running request; the reader's side of its choices."""

    def __init__(self, engine: LlamaEngine, request: Request) -> None:
        self._engine = engine  # kept, so that the engine is not freed while this runs
        self._request = request
        self._choices: list[Choice] = []
        self._ready: deque[Choice] = deque()
        self._open = request.n
        self._waiter: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._choices = await self._engine.start(self, self._request)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Give up whatever still runs; nothing is waited for."""
        with self._engine.lock:
            for choice in self._choices:
                choice.close(Finish.CANCELLED)
            self._engine.forget(self._choices)

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self

    async def __anext__(self) -> Piece:
        while True:
            with self._engine.lock:
                piece = self._ready.popleft().take() if self._ready else None
                if piece is None and self._open:
                    self._waiter = asyncio.get_running_loop().create_future()
            if piece is not None:
                self._open -= piece.finish is not None
                return piece
            if not self._open or self._waiter is None:
                raise StopAsyncIteration
            await self._waiter

    def cancel(self, index: int) -> None:
        """End choice ``index`` now; its last piece is ready at once."""
        with self._engine.lock:
            choice = self._choices[index]
            choice.close(Finish.CANCELLED)
            self._engine.forget([choice])
        self._wake()

    def post(self, choice: Choice) -> None:
        if choice not in self._ready:
            self._ready.append(choice)

    def notify(self) -> None:
        """From the worker: wake the reader, if it sleeps; give up for it, if its loop is gone."""
        loop = self._loop
        if loop is None:
            return
        try:
            if loop.is_closed():
                raise RuntimeError
            if self._waiter is not None:
                loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # it was closed, before or just now, and nobody left the block
            with self._engine.lock:
                for choice in self._choices:
                    choice.close(Finish.CANCELLED)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
