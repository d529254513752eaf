"""An upstream that is not there, that comes, and that fails."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiohttp
import openai
import pytest
from house import House, Open
from upstreams import Upstream

from fathom.serve.breaker import Breaker
from fathom.serve.config import ModelEntry
from fathom.serve.refusal import Refused


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def ready(house: House) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(house.url + "/readyz") as reply:
        return reply.status, await reply.json()


async def test_it_starts_without_its_upstream_and_serves_it_when_it_comes(open_house: Open) -> None:
    port = free_port()
    house = await open_house(entry=ModelEntry(uri=f"openai:m@http://127.0.0.1:{port}/v1"))
    assert await ready(house) == (503, {"status": "unready", "models": {"m": "absent"}})
    for fathom in (None, {"strategy": "vote", "width": 4}):
        with pytest.raises(openai.InternalServerError) as caught:
            await house.ask(fathom=fathom)
        assert (caught.value.status_code, caught.value.code) == (503, "upstream_absent")
        assert int(caught.value.response.headers["Retry-After"]) >= 1
    with Upstream(port=port):
        while (await ready(house))[0] != 200:  # noqa: ASYNC110 (it is asked as a load balancer would)
            await asyncio.sleep(0.05)
        assert (await house.ask()).choices[0].message.content
        assert (await house.ask(fathom={"strategy": "vote", "width": 4})).choices


async def test_the_samples_of_searches_open_the_breaker(open_house: Open, upstream: Upstream) -> None:
    house = await open_house()
    upstream.fault = lambda number: "reset"
    asked = {"strategy": "vote", "width": 2, "within": 10}
    ends = await asyncio.gather(*(house.ask(fathom=asked) for _ in range(20)), return_exceptions=True)
    assert all(isinstance(end, openai.InternalServerError) for end in ends)
    with pytest.raises(openai.InternalServerError) as caught:
        await house.ask(fathom=asked)
    assert caught.value.code == "upstream_resting"
    assert (await ready(house))[1] == {"status": "unready", "models": {"m": "resting"}}
    upstream.fault = lambda number: None
    await asyncio.sleep(1.05)
    assert await house.ask(fathom={"strategy": "vote", "width": 2})
    assert await ready(house) == (200, {"status": "ready", "models": {"m": "ready"}})


async def test_deadlines_that_nothing_could_meet_are_not_the_upstreams_fault(
    open_house: Open, upstream: Upstream
) -> None:
    upstream.delay = 0.3
    house = await open_house()
    for strategy in ("vote", "direct"):
        ends = await asyncio.gather(
            *(house.ask(fathom={"strategy": strategy, "within": 0.1}) for _ in range(20)), return_exceptions=True
        )
        assert all(isinstance(end, openai.InternalServerError) for end in ends)
    assert house.server.gateway.models["m"].breaker.state == "ready"


def test_one_request_is_the_trial() -> None:
    breaker = Breaker("m", most=2, rest=0.001)
    breaker.failed()
    breaker.check()
    breaker.failed()
    with pytest.raises(Refused):
        breaker.check()
    breaker.succeeded()
    breaker.check()


async def test_a_straggler_of_a_search_or_a_plain_call_is_asked_for_twice(open_house: Open, upstream: Upstream) -> None:
    house = await open_house()
    for fathom in (None, {"strategy": "vote(stop=never)", "width": 1}):
        for _ in range(20):
            await house.ask(fathom=fathom)
        sent = len(upstream.bodies)
        upstream.fault = lambda number, straggler=sent: "hang" if number == straggler else None
        reply = await asyncio.wait_for(house.ask(fathom=fathom), 20)
        assert reply.choices[0].message.content
        assert len(upstream.bodies) == sent + 2
        assert reply.usage.prompt_tokens > 11
