"""``limits.seconds`` ends every request: whatever it waits for, and whether its client reads or not."""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import openai
import pytest
from house import ASKED, House, Open
from upstreams import Upstream
from waiting import until

from fathom.serve import listening
from fathom.serve.config import Limits


def endless(body: dict[str, Any], choice: int) -> list[str]:
    return ["on", *[" and on"] * 100_000]


@pytest.mark.parametrize("strategy", ["vote(stop=never)", "direct"])
@pytest.mark.parametrize("path", ["/v1/fathom/stream", "/v1/chat/completions", "/v1/responses"])
async def test_without_a_deadline_too(open_house: Open, upstream: Upstream, path: str, strategy: str) -> None:
    upstream.tokens, upstream.step = endless, 0.05
    house = await open_house(limits=Limits(seconds=0.6))
    body: dict[str, Any] = {"model": "m", "fathom": {"strategy": strategy}, "stream": True}
    body |= {"input": "hi"} if "responses" in path else {"messages": ASKED}
    if "fathom" in path:
        del body["stream"]
    async with aiohttp.ClientSession() as session, session.post(house.url + path, json=body) as reply:
        text = await asyncio.wait_for(reply.text(), 120)
    assert '"fathom"' in text or '"error"' in text
    assert await nothing_left(house, upstream)


async def test_whoever_waits_for_a_turn_is_told_in_time(open_house: Open, upstream: Upstream) -> None:
    upstream.fault = lambda number: "hang"
    house = await open_house(limits=Limits(seconds=3.0, concurrent=1))
    ends = await asyncio.wait_for(asyncio.gather(*(house.ask() for _ in range(3)), return_exceptions=True), 120)
    assert sorted(end.status_code for end in ends if isinstance(end, openai.APIStatusError)) == [503, 503, 504]


async def nothing_left(house: House, upstream: Upstream) -> bool:
    """Whether within a minute or so nothing runs, here or behind."""
    for _ in range(6000):
        if not house.server.gateway.gate.running and not upstream.running:
            return True
        await asyncio.sleep(0.01)
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "strategy"),
    [
        ("/v1/fathom/stream", "vote(stop=never)"),
        ("/v1/fathom/stream", "direct"),
        ("/v1/chat/completions", "direct"),
    ],
)
async def test_a_client_that_stops_reading_holds_nothing_for_long(
    open_house: Open, upstream: Upstream, path: str, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "GRACE", 0.5)
    upstream.tokens = lambda body, choice: ["x" * 100_000] * 400
    house = await open_house(limits=Limits(seconds=2.5, concurrent=1, depth=1000))
    fathom = {"strategy": strategy, "width": 1, "depth": 900}
    body = {"model": "m", "messages": ASKED, "stream": True, "fathom": fathom}
    asked = msgspec.json.encode(body)
    address = urlsplit(house.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, (address.hostname, address.port))
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        await loop.sock_sendall(client, f"{head}Content-Length: {len(asked)}\r\n\r\n".encode() + asked)
        await until(lambda: upstream.bodies)
        assert await nothing_left(house, upstream)
    upstream.tokens = lambda body, choice: ["fine"]
    assert (await house.ask()).choices[0].message.content == "fine"
