"""When each request has to end so that all can end by their deadlines.

Ending a request takes the event loop a few milliseconds, and it ends one at a time: of many with one deadline the last
would be late by the sum of the others. So every request books a landing slot, the latest free stretch of the loop's
time before its deadline (scheduling backwards from due dates; Jackson, 1955), and ends when that begins. One whose
slot would leave it too little time waits until others have landed, and is hopeless once even a sky without others
would.

How long a stretch is, the loop itself tells: by the CPU time that requests take it, by how much longer than that it
needs where others use the processor too, and by how late its timers and the landings before were.
"""

from __future__ import annotations

import asyncio
import math
import time
from bisect import insort
from dataclasses import dataclass

__all__ = ["LEAST", "Landings", "Pulse", "Slot"]

BEAT = 0.01  # seconds between two looks at the loop
FADE = 0.5  # seconds in which half of a lateness is forgotten
FIRST_COST = 0.003
LEAST = 0.5  # of its time at least is a request's to think in
MOST_STRETCH = 8.0
REFUSAL = 0.25  # of the time of a request that is let in, what one takes that is not


class Pulse:
    """How late the event loop is, and how much longer than its CPU time it takes: a timer ticks while anything runs."""

    def __init__(self) -> None:
        self.stretch = 1.0
        self._late = 0.0
        self._late_at = 0.0
        self._running = 0
        self._timer: asyncio.TimerHandle | None = None
        self._busy = 0.0

    @property
    def late(self) -> float:
        """Seconds by which it is late now, as far as is known."""
        return self._late * math.exp2((self._late_at - time.monotonic()) / FADE)

    def was_late(self, seconds: float) -> None:
        """So late was something that was to be done at a time."""
        if seconds >= self.late:
            self._late, self._late_at = seconds, time.monotonic()

    def enter(self) -> None:
        """Something runs: tick."""
        self._running += 1
        if self._timer is None:
            self._set()

    def leave(self) -> None:
        """It has ended."""
        self._running -= 1

    def _set(self) -> None:
        loop = asyncio.get_running_loop()
        self._busy = time.thread_time()
        self._timer = loop.call_later(BEAT, self._tick, loop.time() + BEAT)

    def _tick(self, due: float) -> None:
        late = asyncio.get_running_loop().time() - due
        self.was_late(late)
        if late > BEAT:  # it had no rest in this beat
            busy = max(time.thread_time() - self._busy, (BEAT + late) / MOST_STRETCH)
            self.stretch += 0.1 * (max(1.0, (BEAT + late) / busy) - self.stretch)
        else:
            self.stretch += 0.02 * (1.0 - self.stretch)
        self._timer = None
        if self._running:
            self._set()


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """A stretch of the loop's time, in seconds of ``time.monotonic``."""

    begin: float
    end: float


class Landings:
    """The slots that are taken."""

    def __init__(self) -> None:
        self.pulse = Pulse()
        self._cpu = FIRST_COST  # seconds of a request
        self._busy = time.thread_time()
        self._refused = 0  # requests since then
        self._taken: list[Slot] = []

    @property
    def cost(self) -> float:
        """Seconds that a request takes the loop."""
        return self._cpu * self.pulse.stretch

    def book(self, asked: float, deadline: float) -> Slot | None:
        """The latest free slot before the deadline of a request that asked for so many seconds.

        None where too few of those would be left until then, as long as others take slots; then `free` will be called,
        and it can be tried again.
        """
        if deadline < math.inf:
            cost, end = self.cost, self._end(asked, deadline)
            for other in reversed(self._taken):
                if other.end <= end - cost:
                    break
                end = min(end, other.begin)
            slot = Slot(end - cost, end)
            if self._taken and slot.begin - time.monotonic() < LEAST * asked:
                return None
            insort(self._taken, slot)
        else:
            slot = Slot(deadline, deadline)
        self.pulse.enter()
        return slot

    def hopeless(self, asked: float, deadline: float) -> bool:
        """Whether too little time would be left to it even if nobody else took any."""
        return self._end(asked, deadline) - self.cost - time.monotonic() < LEAST * asked

    def _end(self, asked: float, deadline: float) -> float:
        """When to have landed, for all to be done by the deadline on a loop that is late."""
        return deadline - min(self.pulse.late, (1 - LEAST) / 2 * asked)

    def free(self, slot: Slot) -> None:
        """The request has ended."""
        self.pulse.leave()
        if slot.begin < math.inf:
            self._taken.remove(slot)
            self.pulse.was_late(time.monotonic() - slot.end)
        busy = time.thread_time()
        self._cpu += 0.05 * ((busy - self._busy) / (1 + REFUSAL * self._refused) - self._cpu)
        self._busy, self._refused = busy, 0

    def refuse(self) -> None:
        """A request was not let in. That takes time too, which is none of those that are."""
        self._refused += 1
