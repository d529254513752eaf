"""The gate: so many requests run at a time, so many wait, the others are told to come again.

Those that wait are let in by turns of their clients, so that one that sends a thousand requests does not hold up
another that sends one. Let in is what can still end by its deadline (`landing`); the meter of one that is let in ends
where its landing begins.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fathom.budget import Meter
from fathom.serve.landing import LEAST, Landings, Slot
from fathom.serve.limits import Client
from fathom.serve.refusal import Refused

__all__ = ["Gate"]

Turn = tuple[Meter, "asyncio.Future[Slot | None]"]
"""A request that waits, and where it is told its slot, or None: that there is too little time left."""


class Gate:
    """Permits for ``most`` requests, and room for ``queue`` that wait. None lasts longer than ``seconds``."""

    def __init__(self, most: int, queue: int, seconds: float) -> None:
        self.most = most
        self.queue = queue
        self.seconds = seconds
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
        slot = None if self.waiting else self._admit(meter)
        if slot is None:
            slot = await self._wait(client, meter)
        meter.deadline = min(meter.deadline, slot.begin)
        try:
            yield
        finally:
            self._leave(slot)

    def _admit(self, meter: Meter) -> Slot | None:
        """A permit and a landing slot, or neither."""
        if self.running >= self.most:
            return None
        slot = self.landings.book(_asked(meter), meter.deadline)
        if slot is not None:
            self.running += 1
        return slot

    async def _wait(self, client: Client, meter: Meter) -> Slot:
        if self.waiting >= self.queue:
            raise self._come_again(f"{self.running} requests are running and {self.waiting} are waiting")
        turn: Turn = meter, asyncio.get_running_loop().create_future()
        self._turns.setdefault(client, deque()).append(turn)
        self.waiting += 1
        slot: Slot | None = None
        try:
            async with asyncio.timeout(self._patience(meter)):
                slot = await turn[1]
        except TimeoutError:
            slot = turn[1].result() if _granted(turn) else None
        except BaseException:
            if _granted(turn) and (slot := turn[1].result()) is not None:
                self._leave(slot)
            raise
        finally:
            if turn[1].cancelled() and turn in self._turns.get(client, ()):  # else it was taken out of the line
                self._forget(client, turn)
        if slot is None:
            self._let_others_in()
            raise self._come_again(f"too little time was left while the request waited behind {self.running} others")
        return slot

    def _patience(self, meter: Meter) -> float:
        """Seconds that a request waits for its turn before too little of its time is left."""
        return meter.started + (1 - LEAST) * min(self.seconds, _asked(meter)) - time.monotonic()

    def _come_again(self, why: str) -> Refused:
        self.landings.refuse()
        return Refused(503, f"{why}; come again", code="overloaded", retry_after=1.0)

    def _forget(self, client: Client, turn: Turn) -> None:
        turns = self._turns[client]
        turns.remove(turn)
        self.waiting -= 1
        if not turns:
            del self._turns[client]

    def _leave(self, slot: Slot) -> None:
        self.running -= 1
        self.landings.free(slot)
        self._let_others_in()

    def _let_others_in(self) -> None:
        while self.running < self.most and self._let_one_in():
            pass

    def _let_one_in(self) -> bool:
        """Let in the first client's next request, or that of the next client where that has no room to land."""
        for client in list(self._turns):
            turn = self._next(client)
            slot = None if turn is None else self._admit(turn[0])
            if turn is not None and slot is not None:
                self._forget(client, turn)
                if client in self._turns:
                    self._turns.move_to_end(client)
                turn[1].set_result(slot)
                return True
        return False

    def _next(self, client: Client) -> Turn | None:
        """The client's first request that can still be thought over in time; those before it are told that they cannot.

        They must not hold up the others: under load, the first of a line is always the one that has least time left.
        """
        while turns := self._turns.get(client):
            turn = meter, future = turns[0]
            if not future.done() and not self.landings.hopeless(_asked(meter), meter.deadline):
                return turn
            self._forget(client, turn)
            if not future.done():
                future.set_result(None)
        return None


def _granted(turn: Turn) -> bool:
    """Whether a turn has been told how it ends, which may be at the very moment at which it gives up."""
    return turn[1].done() and not turn[1].cancelled()


def _asked(meter: Meter) -> float:
    return meter.deadline - meter.started
