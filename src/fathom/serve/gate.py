"""The gate: so many requests run at a time, so many wait, the others are told to come again.

Those that wait are let in by turns of their clients, so that one that sends a thousand requests does not hold up
another that sends one. Let in is what can still end by its deadline (`landing`); the meter of one that is let in ends
where its landing begins.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fathom.budget import Meter
from fathom.serve.landing import LEAST, Landings, Slot
from fathom.serve.limits import Client
from fathom.serve.refusal import Refused

__all__ = ["Gate"]

LONGEST = 3600.0  # that anyone waits

Turn = tuple[Meter, "asyncio.Future[Slot]"]


class Gate:
    """Permits for ``most`` requests, and room for ``queue`` that wait."""

    def __init__(self, most: int, queue: int) -> None:
        self.most = most
        self.queue = queue
        self.running = 0
        self.waiting = 0
        self.closed = False
        self.landings = Landings()
        self._turns: OrderedDict[Client, deque[Turn]] = OrderedDict()

    @asynccontextmanager
    async def enter(self, client: Client, meter: Meter) -> AsyncGenerator[None, None]:
        """Wait for a turn, as long as enough of its time would be left. Raises Refused (503)."""
        if self.closed:
            raise Refused(503, "the gateway is shutting down", code="shutting_down", retry_after=5.0)
        slot = (None if self.waiting else self._admit(meter)) or await self._wait(client, meter)
        meter.deadline = min(meter.deadline, slot.begin)
        try:
            yield
        finally:
            self._leave(slot)

    def _admit(self, meter: Meter) -> Slot | None:
        """A permit and a landing slot, or neither."""
        if self.running >= self.most:
            return None
        slot = self.landings.book(meter.deadline - meter.started, meter.deadline)
        if slot is not None:
            self.running += 1
        return slot

    async def _wait(self, client: Client, meter: Meter) -> Slot:
        if self.waiting >= self.queue:
            raise Refused(
                503,
                f"{self.running} requests are running and {self.waiting} are waiting; come again",
                code="overloaded",
                retry_after=1.0,
            )
        turn: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._turns.setdefault(client, deque()).append((meter, turn))
        self.waiting += 1
        try:
            async with asyncio.timeout(_patience(meter)):
                return await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # the permit had been handed over already
                self._leave(turn.result())
            else:
                self._forget(client, turn)
            if isinstance(error, TimeoutError):
                raise Refused(
                    503,
                    f"too little time was left while the request waited behind {self.running} others; come again",
                    code="overloaded",
                    retry_after=1.0,
                ) from None
            raise

    def _forget(self, client: Client, turn: asyncio.Future[Slot]) -> None:
        turns = self._turns.get(client, deque())
        for entry in turns:
            if entry[1] is turn:
                self.waiting -= 1
                turns.remove(entry)
                break
        if not turns:
            self._turns.pop(client, None)

    def _leave(self, slot: Slot) -> None:
        self.running -= 1
        self.landings.free(slot)
        while self.running < self.most and self._let_in():
            pass

    def _let_in(self) -> bool:
        """Let in the first client's next request, or that of the next client where that has no room to land."""
        for client, turns in self._turns.items():
            meter, turn = turns[0]
            slot = None if turn.done() else self._admit(meter)  # done: whoever waited is leaving at this very moment
            if slot is None and not turn.done():
                continue
            turns.popleft()
            del self._turns[client]
            if turns:
                self._turns[client] = turns  # at the end: the others come first
            self.waiting -= 1
            if slot is not None:
                turn.set_result(slot)
            return True
        return False


def _patience(meter: Meter) -> float:
    """Seconds that a request waits for its turn before too little of its time is left."""
    if meter.deadline == math.inf:
        return LONGEST
    return min(LONGEST, meter.started + (1 - LEAST) * (meter.deadline - meter.started) - time.monotonic())
