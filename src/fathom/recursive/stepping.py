"""Many trajectories, one batch: whatever grows for a session advances together in a worker thread, a few supervision
steps at a turn, so that the event loop is never held up and width costs less than its number.

Who began first goes first where not all fit into a step. A step cannot be broken off: what is cut, or what nobody waits
for any more, leaves at its end. None is begun that would hardly end before the deadline.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import islice

from fathom.budget import Meter
from fathom.recursive.explorer import Explorer
from fathom.recursive.explorer import Trajectory as Latent
from fathom.recursive.pace import Pace
from fathom.recursive.settling import End, Settling

__all__ = ["WAVE", "Habits", "Row", "Stepper"]

WAVE = 128
"""Trajectories that step together at most."""
TICK = 0.02
"""Seconds that a step should take at most where there is a deadline."""
TURN = 0.02
"""Seconds after which a turn of the worker ends with the step that is under way, or earlier if anything comes to its
end. On a busy machine threads wait for one another: a turn for each step would cost as much again.
"""
HAND_OVER = 0.01
"""Seconds before a deadline at which the answer is taken, and those that opening a session takes."""
CHEAP = 1.5
"""How much longer a step may take than that of one trajectory, for width to be had in passing."""
SETTLING = Settling()

_Seen = tuple[End | None, bool | None]
Validity = Callable[[Sequence[Latent]], Sequence[bool | None]]


@dataclass
class Habits:
    """What is known of a model, shared by its sessions: what a step costs, and when a trajectory comes to its end."""

    pace: Pace
    step_flops: float
    halt_threshold: float
    """The halt probability above which a trajectory ends; 1 where it never does."""
    settles: bool
    """Whether one ends that has come to rest or goes round in circles."""
    usual_depth: float
    """Supervision steps of one that comes to its own end: a running mean."""
    greatest_depth: int
    """Supervision steps of one that does not, where nobody said how many."""

    def ended(self, depth: int) -> None:
        """A trajectory came to its own end at that depth."""
        self.usual_depth += 0.1 * (depth - self.usual_depth)

    def tick(self) -> int:
        """How many trajectories step together where there is a deadline."""
        return max(self.cheap(), self.pace.widest(TICK, WAVE))

    def cheap(self) -> int:
        """How many take hardly longer than one alone."""
        return self.pace.widest(CHEAP * self.pace.step(1), WAVE)


@dataclass(eq=False)
class Row:
    """A trajectory that grows to depth ``until``, or to its own end, but not before ``at_least``. ``reason`` is why it
    came back.
    """

    id: int
    parent: int | None
    latent: Latent
    until: int
    at_least: int
    meter: Meter
    outbox: asyncio.Queue[Row]
    reason: str = ""
    valid: bool | None = None
    error: str | None = None
    wanted: bool = True

    @property
    def finished(self) -> bool:
        """Whether it came to its own end."""
        return self.reason in ("verified", End.HALTED, End.CONVERGED, End.LOOPED)


class Stepper:
    """Steps rows until each ends, and puts it into its outbox.

    ``validity`` says which of the answers that trajectories hold are right, None where that is not known; it is called
    in the worker. ``release`` is told of rows that nobody wants any more, once they rest.
    """

    def __init__(
        self,
        explorer: Explorer,
        habits: Habits,
        worker: Executor,
        validity: Validity,
        release: Callable[[Row], None],
    ) -> None:
        self.explorer = explorer
        self.habits = habits
        self.ended = 0
        self._worker = worker
        self._validity = validity
        self._release = release
        self._rows: dict[int, Row] = {}
        self._under_way: frozenset[Row] = frozenset()
        self._step_began = 0.0
        self._called = False  # whether the turn is to end with the step that is under way
        self._task: asyncio.Task[None] | None = None

    @property
    def remaining(self) -> float:
        """Seconds that the step that is computed now will usually still take, 0 where there is none."""
        if not self._under_way:
            return 0.0
        return max(0.0, self.habits.pace.step(len(self._under_way)) - (time.monotonic() - self._step_began))

    def add(self, rows: Sequence[Row]) -> None:
        """Have these grow from now on."""
        self._called = True
        self._rows.update((row.id, row) for row in rows)
        if self._rows and self._task is None:
            self._task = asyncio.create_task(self._run())

    @property
    def rows(self) -> Sequence[Row]:
        """Those that grow now."""
        return list(self._rows.values())

    def growing(self, latent: Latent) -> Row | None:
        """The row that grows this trajectory, if one does."""
        return next((row for row in self._rows.values() if row.latent is latent), None)

    def cut(self, ids: Collection[int] | None = None) -> None:
        """Give these back, or all, as they are after the step that is under way."""
        self._called = True
        for row in list(self._rows.values()):
            if ids is None or row.id in ids:
                row.reason = "cut"
                if row not in self._under_way:
                    self._hand_over(row)

    def abandon(self, row: Row) -> None:
        """Nobody waits for this row any more."""
        self._called = True
        row.wanted = False
        if row not in self._under_way:
            self._rows.pop(row.id, None)
            self._release(row)

    async def aclose(self) -> None:
        """Wait for the step that is under way. All rows have been abandoned, or are given back as cut."""
        self.cut()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while (wave := self._wave()) and self._in_time(wave):
                self._under_way, self._called = frozenset(wave), False
                self._step_began = began = time.monotonic()
                try:
                    seen, steps = await loop.run_in_executor(self._worker, self._turn, wave)
                except Exception as error:  # whatever torch raises, it costs these trajectories, not the run
                    self._fail(wave, f"{type(error).__name__}: {error}"[:500])
                    continue
                finally:
                    self._under_way = frozenset()
                self.habits.pace.saw(len(wave), (time.monotonic() - began) / steps)
                for row, (settled, valid) in zip(wave, seen, strict=True):
                    row.meter.charge("sample", flops=steps * self.habits.step_flops)
                    row.valid = valid
                    self._look_at(row, settled)
        finally:
            self._task = None

    def _wave(self) -> list[Row]:
        limited = any(row.meter.deadline < math.inf for row in self._rows.values())
        return list(islice(self._rows.values(), self.habits.tick() if limited else WAVE))

    def _in_time(self, wave: Sequence[Row]) -> bool:
        """Whether a step begun now would end in time; what would not waits to be cut.

        A slow step would be late. Until something has ended that is a risk worth taking, for there is no answer yet.
        """
        pace = self.habits.pace
        if not any(row.latent.depth for row in self._rows.values()) and not self.ended:
            return True  # the first step is taken in any case, so that there is something to conclude
        seconds = pace.late(len(wave)) if self.ended else pace.step(len(wave))
        return seconds + HAND_OVER <= min(row.meter.seconds_left for row in wave)

    def _turn(self, wave: Sequence[Row]) -> tuple[list[_Seen], int]:
        """In the worker: steps of the wave, until one of its rows comes to an end or the turn is over. What the last
        step led to, and how many there were.
        """
        began, steps = time.monotonic(), 0
        while True:
            self._step_began = time.monotonic()
            seen = self._step([row.latent for row in wave])
            steps += 1
            ends = any(self._end(row, *of) for row, of in zip(wave, seen, strict=True))
            if ends or self._called or time.monotonic() - began > TURN or not self._in_time(wave):
                return seen, steps

    def _step(self, latents: Sequence[Latent]) -> list[_Seen]:
        """One supervision step of each: how it has settled, and whether its answer is right."""
        self.explorer.advance(latents)
        settled = self.explorer.settled(latents, SETTLING)
        for latent in latents:
            latent.note()
        return list(zip(settled, self._validity(latents), strict=True))

    def _look_at(self, row: Row, settled: End | None) -> None:
        """After a turn of a row: hand it over where it has come to an end."""
        if end := self._end(row, settled, row.valid):
            if end != "length":
                self.ended += 1
                self.habits.ended(row.latent.depth)
            row.reason = end if end != "length" else row.reason or end
        if not row.wanted:
            self.abandon(row)
        elif row.reason:
            self._hand_over(row)

    def _end(self, row: Row, settled: End | None, valid: bool | None) -> str:
        """Why it goes no further: its answer is right, or it is sure of that, or nothing new comes any more; or it is
        as deep as was asked for (``length``). Empty where it goes on.

        What is known to be wrong does not halt, however sure the model is.
        """
        depth = row.latent.depth
        if depth >= row.at_least:
            if valid:
                return "verified"
            if row.latent.halt > self.habits.halt_threshold and valid is None:
                return End.HALTED.value
            if settled is not None and self.habits.settles:
                return settled.value
        return "length" if depth >= row.until else ""

    def _fail(self, wave: Sequence[Row], error: str) -> None:
        for row in wave:
            row.reason, row.error = "failed", error
            if row.wanted:
                self._hand_over(row)
            else:
                self.abandon(row)

    def _hand_over(self, row: Row) -> None:
        del self._rows[row.id]
        row.outbox.put_nowait(row)
