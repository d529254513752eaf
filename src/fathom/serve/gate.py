"""The gate: so many requests run at a time, so many wait, the others are told to come again.

Those that wait are let in by turns of their clients, so that one that sends a thousand requests does not hold up
another that sends one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fathom.serve.limits import Client
from fathom.serve.refusal import Refused

__all__ = ["Gate"]


class Gate:
    """Permits for ``most`` requests, and room for ``queue`` that wait."""

    def __init__(self, most: int, queue: int) -> None:
        self.most = most
        self.queue = queue
        self.running = 0
        self.waiting = 0
        self.closed = False
        self._turns: OrderedDict[Client, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def enter(self, client: Client, seconds: float) -> AsyncGenerator[None, None]:
        """Wait for a turn, for so many seconds at most. Raises Refused (503)."""
        if self.closed:
            raise Refused(503, "the gateway is shutting down", code="shutting_down", retry_after=5.0)
        if self.running >= self.most or self.waiting:
            await self._wait(client, seconds)
        else:
            self.running += 1
        try:
            yield
        finally:
            self._leave()

    async def _wait(self, client: Client, seconds: float) -> None:
        if self.waiting >= self.queue:
            raise Refused(
                503,
                f"{self.running} requests are running and {self.waiting} are waiting; come again",
                code="overloaded",
                retry_after=1.0,
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.setdefault(client, deque()).append(turn)
        self.waiting += 1
        try:
            async with asyncio.timeout(min(seconds, 3600.0)):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # the permit had been handed over already
                self._leave()
            else:
                self._forget(client, turn)
            if isinstance(error, TimeoutError):
                raise Refused(
                    503,
                    "the deadline came while the request was waiting for its turn",
                    code="overloaded",
                    retry_after=1.0,
                ) from None
            raise

    def _forget(self, client: Client, turn: asyncio.Future[None]) -> None:
        turns = self._turns.get(client, deque())
        if turn not in turns:
            return
        self.waiting -= 1
        turns.remove(turn)
        if not turns:
            del self._turns[client]

    def _leave(self) -> None:
        self.running -= 1
        while self._turns and self.running < self.most:
            client, turns = self._turns.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._turns[client] = turns  # at the end: the others come first
            self.waiting -= 1
            if not turn.done():  # else whoever waited is leaving at this very moment
                self.running += 1
                turn.set_result(None)
