"""A breaker for each upstream (Nygard, Release It!, 2007): after many failures in a row, requests are refused at once
for a while instead of each waiting for a server that is down; then one is let through to see.

Every reply of the upstream counts, whatever it was asked for: the samples of a search as much as a plain completion. An
upstream that is not there when the gateway starts is asked for in the background until it comes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from fathom.errors import UpstreamError
from fathom.language.engines.base import Engine, Finish, Generation, Piece, Request
from fathom.language.engines.wrapped import WrappedEngine, WrappedGeneration
from fathom.serve.refusal import Refused

__all__ = ["Breaker", "GuardedEngine"]

ASKED_EVERY = 0.5  # seconds between two looks for an upstream that is not there, at first; doubled up to
ASKED_AT_LEAST_EVERY = 10.0
CLOSE = 0.01  # seconds before a deadline that are taken for it, for timers are inexact


class Breaker:
    """Opens after ``most`` failures in a row, for ``rest`` seconds at first, doubled up to a minute."""

    def __init__(self, name: str, most: int = 16, rest: float = 1.0) -> None:
        self.name = name
        self.most = most
        self.rest = rest
        self.absent = False
        self._failures = 0
        self._until = 0.0
        self._pause = rest
        self._trial = False

    @property
    def open(self) -> bool:
        """Whether requests are refused now."""
        return self.absent or (self._failures >= self.most and time.monotonic() < self._until)

    @property
    def state(self) -> str:
        """In a word: ``ready``, ``resting``, or ``absent`` where it was never seen."""
        if self.absent:
            return "absent"
        return "resting" if self.open else "ready"

    def check(self) -> None:
        """Raises Refused (503) while it is open. What passes is no trial yet: it may be refused elsewhere."""
        left = self._until - time.monotonic()
        if self.absent:
            raise Refused(
                503,
                f"the upstream of {self.name} is not there; it is looked for again in {max(0.0, left):.1f} s",
                code="upstream_absent",
                retry_after=max(1.0, left),
            )
        if self._failures >= self.most and left > 0:
            raise Refused(
                503,
                f"the upstream of {self.name} is failing; it is tried again in {left:.1f} s",
                code="upstream_resting",
                retry_after=left,
            )

    def sent(self) -> None:
        """A request goes out. The first one after a rest is the trial, until whose end others still wait."""
        if self._failures >= self.most and time.monotonic() >= self._until:
            self._until, self._trial = time.monotonic() + self._pause, True

    def succeeded(self) -> None:
        """A reply came, if only to say that the request is wrong, or comes too early."""
        self._failures, self._pause, self._trial = 0, self.rest, False

    def failed(self) -> None:
        """None came, and not by the request's fault."""
        self._failures += 1
        if self._failures == self.most or self._trial:  # others that were under way tell nothing new
            self._trial = False
            self._until = time.monotonic() + self._pause
            self._pause = min(60.0, 2 * self._pause)

    async def look_for(self, ask: Callable[[], Awaitable[object]]) -> None:
        """Ask until an answer comes; until then it is open."""
        self.absent, pause = True, ASKED_EVERY
        while self.absent:
            self._until = time.monotonic() + pause
            await asyncio.sleep(pause)
            pause = min(ASKED_AT_LEAST_EVERY, 2 * pause)
            try:
                await ask()
            except UpstreamError:
                continue
            self.absent = False


class _Guarded(WrappedGeneration):
    """A generation whose first end, or failure, is told to the breaker."""

    def __init__(self, generation: Generation, breaker: Breaker, deadline: float | None) -> None:
        super().__init__(generation)
        self._breaker = breaker
        self._deadline = deadline
        self._told = False

    def see(self, piece: Piece) -> None:
        if piece.finish is None or self._told:
            return
        error = piece.error if isinstance(piece.error, UpstreamError) else None
        if piece.finish in (Finish.STOP, Finish.LENGTH) or (error is not None and (error.status or 500) < 500):
            self._told = True
            self._breaker.succeeded()
        elif error is not None and error.retryable and not self._late:
            self._told = True
            self._breaker.failed()

    @property
    def _late(self) -> bool:
        """Whether the request's own deadline, and not the upstream, ended it."""
        return self._deadline is not None and time.monotonic() > self._deadline - CLOSE


class GuardedEngine(WrappedEngine):
    """An engine whose replies are told to a breaker."""

    def __init__(self, engine: Engine, breaker: Breaker) -> None:
        super().__init__(engine)
        self._breaker = breaker

    def generate(self, request: Request) -> Generation:
        self._breaker.sent()
        return _Guarded(self._engine.generate(request), self._breaker, request.deadline)
