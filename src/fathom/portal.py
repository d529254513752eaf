"""A bridge from ordinary code to the asynchronous engine room.

All synchronous calls share one event loop on one background thread, so that connections and models stay open between
calls, and so that they work from scripts, notebooks and other event loops alike.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from functools import lru_cache
from typing import Any, TypeVar

__all__ = ["call", "portal_loop", "submit"]

T = TypeVar("T")


@lru_cache(maxsize=1)
def portal_loop() -> asyncio.AbstractEventLoop:
    """The loop, started at first use; its thread is a daemon and ends with the interpreter."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="fathom-portal", daemon=True).start()
    return loop


def submit(work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
    """Start work on the portal's loop."""
    return asyncio.run_coroutine_threadsafe(work, portal_loop())


def call(work: Coroutine[Any, Any, T]) -> T:
    """Run work on the portal's loop and wait for it. Interrupted, it cancels the work and raises at once."""
    future = submit(work)
    try:
        return future.result()
    except KeyboardInterrupt:
        future.cancel()
        raise
