"""An upstream that is not there, that comes, and that fails."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import aiohttp
import msgspec
import openai
import pytest
from house import ASKED, Clock, House, Open, reserved
from upstreams import Upstream

from fathom.serve.breaker import Breaker
from fathom.serve.config import KeyEntry, ModelEntry
from fathom.serve.refusal import Refused


async def ready(house: House) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(house.url + "/readyz") as reply:
        return reply.status, await reply.json()


async def test_it_starts_without_its_upstream_and_serves_it_when_it_comes(open_house: Open) -> None:
    with reserved() as port:
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


async def test_the_samples_of_searches_open_the_breaker(open_house: Open, upstream: Upstream, clock: Clock) -> None:
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
    clock.now += 1.05
    assert await house.ask(fathom={"strategy": "vote", "width": 2})
    assert await ready(house) == (200, {"status": "ready", "models": {"m": "ready"}})


async def test_deadlines_that_nothing_could_meet_are_not_the_upstreams_fault(
    open_house: Open, upstream: Upstream
) -> None:
    upstream.delay = 30.0
    house = await open_house()
    for strategy in ("vote", "direct"):
        ends = await asyncio.gather(
            *(house.ask(fathom={"strategy": strategy, "within": 0.1}) for _ in range(20)), return_exceptions=True
        )
        assert all(isinstance(end, openai.InternalServerError) for end in ends)
    assert house.server.gateway.models["m"].state == "ready"


def test_one_request_is_the_trial(clock: Clock) -> None:
    breaker = Breaker("m", most=1, rest=0.5)
    breaker.failed()
    with pytest.raises(Refused):
        breaker.check()
    clock.now += 0.55
    for _ in range(3):  # to ask is no trial
        breaker.check()
    breaker.sent()
    with pytest.raises(Refused):
        breaker.check()
    breaker.succeeded()
    breaker.check()


async def test_requests_that_go_nowhere_are_no_trials(open_house: Open, clock: Clock) -> None:
    """A client that has used up its minute knocks and knocks; the next request of another still is the trial."""
    keys = [KeyEntry(name=name, sha256=hashlib.sha256(name.encode()).hexdigest()) for name in ("busy", "patient")]
    keys[0] = msgspec.structs.replace(keys[0], requests_per_minute=1)
    house = await open_house(keys=keys, key="busy")
    breaker = house.server.gateway.models["m"].behind[0].breaker
    await house.ask()
    for _ in range(breaker.most):
        breaker.failed()
    clock.now += 1.05
    for _ in range(5):
        with pytest.raises(openai.RateLimitError):
            await house.ask()
    patient = house.client.with_options(api_key="patient")
    assert (await patient.chat.completions.create(model="m", messages=ASKED)).choices
    assert breaker.state == "ready"


@pytest.mark.parametrize("status", ["400", "404", "429"])
async def test_an_upstream_that_says_no_is_alive(
    open_house: Open, upstream: Upstream, clock: Clock, status: str
) -> None:
    house = await open_house()
    breaker = house.server.gateway.models["m"].behind[0].breaker
    for _ in range(breaker.most):
        breaker.failed()
    assert breaker.state == "resting"
    clock.now += 1.05
    upstream.fault = lambda number: status
    for _ in range(3):  # the trial, and what comes after it
        with pytest.raises(openai.APIStatusError) as caught:
            await house.ask(fathom={"strategy": "direct", "within": 5})
        assert caught.value.code != "upstream_resting"
        assert breaker.state == "ready"


@pytest.mark.parametrize("fathom", [None, {"strategy": "vote(stop=never)", "width": 1}])
async def test_a_straggler_of_a_search_or_a_plain_call_is_asked_for_twice(
    open_house: Open, upstream: Upstream, fathom: dict[str, Any] | None
) -> None:
    house = await open_house()
    for _ in range(20):
        await house.ask(fathom=fathom)
    assert len(upstream.bodies) == 20
    upstream.fault = lambda number: "hang" if number == 20 else None
    reply = await house.ask(fathom=fathom)
    assert reply.choices[0].message.content
    assert len(upstream.bodies) == 22
    assert reply.usage.prompt_tokens > 11
