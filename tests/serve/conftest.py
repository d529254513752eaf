"""A real gateway on loopback, in front of a made-up upstream; clients are OpenAI's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import openai
import pytest
from house import Clock, Held, House, Open

from fathom.serve.config import Config, ModelEntry
from fathom.serve.server import Server


@pytest.fixture
def upstream() -> Iterator[Held]:
    with Held(delay=0.005) as server:
        yield server


@pytest.fixture
async def open_house(upstream: Held) -> AsyncIterator[Open]:
    """Opens gateways: ``await open_house(limits=Limits(width=8))``."""
    async with AsyncExitStack() as stack:

        async def open_(*, key: str = "none", entry: ModelEntry | None = None, **settings: Any) -> House:
            models = {"m": entry or ModelEntry(uri=f"openai:m@{upstream.url}")}
            server = await stack.enter_async_context(Server(Config(**{"port": 0, "models": models, **settings})))
            client = openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0)
            stack.push_async_callback(client.close)
            return House(server, client)

        yield open_


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The breakers' clock."""
    clock = Clock()
    monkeypatch.setattr("fathom.serve.breaker.time", clock)
    return clock


@pytest.fixture
async def house(open_house: Open) -> House:
    return await open_house()
