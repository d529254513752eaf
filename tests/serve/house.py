"""A running gateway and OpenAI's own client of it, as tests use them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import openai
from aiohttp import web
from upstreams import Upstream

from fathom.serve.server import Server

__all__ = ["ASKED", "Clock", "Held", "House", "Open", "reserved"]

ASKED = [{"role": "user", "content": "What is 17 times 23?"}]


@dataclass
class House:
    """A gateway, and a client of it."""

    server: Server
    client: openai.AsyncOpenAI

    @property
    def url(self) -> str:
        return self.server.url

    async def ask(self, **options: Any) -> Any:
        """One chat completion; ``fathom`` is the extension object."""
        fathom = options.pop("fathom", None)
        body = {"extra_body": {"fathom": fathom}} if fathom is not None else {}
        return await self.client.chat.completions.create(**{"model": "m", "messages": ASKED, **body, **options})


Open = Callable[..., Awaitable[House]]


class Held(Upstream):
    """An upstream that has one more fault, ``held``: such requests wait until the test sets ``freed``."""

    freed = False

    async def _go_wrong(self, fault: str, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if fault != "held":
            return await super()._go_wrong(fault, request, body)
        while not self.freed:  # noqa: ASYNC110 (it is set in another thread)
            await asyncio.sleep(0.005)
        if body.get("stream") and self.streams:
            return await self._stream(request, body)
        return web.json_response(text=self._whole(body))


class Clock:
    """The time as a module is told it: it stands still until a test puts ``now`` forward."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now


@contextmanager
def reserved() -> Iterator[int]:
    """A port at which nobody listens, and which the system gives to nobody else meanwhile."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])
