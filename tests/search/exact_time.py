"""Deadlines on a clock that goes on only while everybody waits: they are exact however busy the machine is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any
from unittest.mock import patch

from virtual_time import VirtualTimeLoop

__all__ = ["exactly_timed"]

LOOK = 1e-8  # seconds that go by with every look at the clock: like a real one, it never shows the same time twice


class _ExactTimeLoop(VirtualTimeLoop):
    """Virtual time with fractions of seconds. Those that are due together come in the same order every time."""

    def time(self) -> float:
        self.now += LOOK
        return self.now

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        return asyncio.SelectorEventLoop.call_at(self, when, callback, *args, context=context)


def exactly_timed(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test on such a clock. Nothing in it may wait for threads or sockets."""

    @wraps(test)
    def timed(*args: Any, **options: Any) -> None:
        with asyncio.Runner(loop_factory=_ExactTimeLoop) as runner, patch("time.monotonic", runner.get_loop().time):
            runner.run(test(*args, **options))

    return timed
