"""How connections come in, and when a request's clock starts."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time

import pytest
from house import ASKED, Open
from upstreams import Upstream

from fathom.errors import UsageError
from fathom.serve.config import Config, ModelEntry
from fathom.serve.listening import DOORS, bound, event_loop
from fathom.serve.server import Server


def test_a_burst_of_connections_is_let_in_within_a_few_turns_of_the_loop(upstream: Upstream) -> None:
    async def turns_until(many: int) -> int:
        config = Config(port=0, models={"m": ModelEntry(uri=f"openai:m@{upstream.url}")})
        async with Server(config) as server:
            where = server.url.removeprefix("http://").split(":")
            connections = [socket.create_connection((where[0], int(where[1]))) for _ in range(many)]
            time.sleep(0.1)  # noqa: ASYNC251 (until the kernel has them all)
            turns = 0
            listener = server._runner.server
            assert listener is not None
            while len(listener.connections) < many:
                before = len(listener.connections)
                await asyncio.sleep(0)
                turns += len(listener.connections) > before  # in others there was nobody at the door
            for connection in connections:
                connection.close()
            return turns

    with asyncio.Runner(loop_factory=event_loop) as runner:
        assert runner.run(turns_until(64)) <= 2 * 64 // DOORS


async def test_a_clock_starts_when_the_bytes_came_and_not_when_they_are_read(
    open_house: Open, upstream: Upstream
) -> None:
    house = await open_house()
    body = json.dumps({"model": "m", "messages": ASKED, "fathom": {"strategy": "vote", "within": 60}}).encode()
    host, port = house.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    time.sleep(0.3)  # noqa: ASYNC251 (the server does not read meanwhile)
    reply = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = int(reply.lower().partition("content-length:")[2].split()[0])
    spent = json.loads(await reader.readexactly(length))["fathom"]["spent"]
    assert spent["seconds"] >= (0.29 if sys.platform == "linux" else 0.0)  # elsewhere nobody knows
    writer.close()


def test_an_address_that_is_taken_is_told_plainly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot listen at 127.0.0.1:{port}"):
            bound(Config(port=port), shared=False)
