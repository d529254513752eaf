"""Waiting for what others bring about, in other threads and processes too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["until"]


async def until(holds: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait until it holds, on a machine that may be slow. Raises TimeoutError after so many seconds."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 (nobody here is told of it)
            await asyncio.sleep(0.005)
