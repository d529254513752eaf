"""Several streams read as one, each item as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

__all__ = ["merged"]

T = TypeVar("T")


async def merged(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """What all ``streams`` give. What one of them raises is raised when the others have ended, so that nothing of
    theirs is lost; when the reader leaves, all are closed.
    """
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for item in only:
                yield item
        return
    came: asyncio.Queue[list[T]] = asyncio.Queue()

    async def read(stream: AsyncGenerator[T, None]) -> None:
        try:
            async with aclosing(stream):
                async for item in stream:
                    came.put_nowait([item])
        finally:
            came.put_nowait([])  # it is over

    tasks = [asyncio.create_task(read(stream)) for stream in streams]
    try:
        for _ in tasks:
            while items := await came.get():
                yield items[0]
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
