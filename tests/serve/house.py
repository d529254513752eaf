"""A running gateway and OpenAI's own client of it, as tests use them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import openai

from fathom.serve.server import Server

__all__ = ["ASKED", "House", "Open"]

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
