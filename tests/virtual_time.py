"""An event loop whose clock jumps to the next thing that is due, so that latencies are exact and cost no time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar
from unittest.mock import patch

T = TypeVar("T")


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing: the loop's clock is moved on instead."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.loop.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its time passes only when there is nothing else to do. Nothing on it may wait for threads or sockets.

    Times are whole seconds. What is due at the same one comes one after the other, in the order in which it was asked
    for, as on a real clock, which never shows the same time twice.
    """

    def __init__(self) -> None:
        selector = _Jumping()
        selector.loop = self
        self.now, self.asked = 0.0, 0
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        self.asked += 1
        return super().call_at(round(when) + 1e-7 * self.asked, callback, *args, context=context)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run work to its end in virtual time: whoever asks for the time is told the loop's."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner, patch("time.monotonic", runner.get_loop().time):
        return runner.run(work)
