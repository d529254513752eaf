"""What the gateway tells of itself, and how it rests an upstream that fails."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
import openai
import pytest
from house import Clock, House, Open
from upstreams import Upstream


async def fetch(house: House, path: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(house.url + path) as reply:
        assert reply.status == 200
        return await reply.text()


async def test_metrics_count_requests_and_tokens(house: House) -> None:
    await house.ask()
    await house.ask(fathom={"strategy": "vote(stop=never)", "width": 3, "within": 60})
    with pytest.raises(openai.NotFoundError):
        await house.ask(model="none")
    text = await fetch(house, "/metrics")
    assert 'fathom_requests_total{path="/v1/chat/completions",status="200"} 2.0' in text
    assert 'fathom_requests_total{path="/v1/chat/completions",status="404"} 1.0' in text
    assert 'fathom_generated_tokens_total{model="m",role="sample"} 20.0' in text
    assert "fathom_requests_running 0.0" in text
    assert "fathom_deadline_overshoot_seconds_count 1.0" in text


async def test_metrics_tell_how_many_trajectories_grow_now(house: House, upstream: Upstream) -> None:
    upstream.delay = 30.0
    asked = [
        asyncio.create_task(house.ask(fathom={"strategy": "vote(stop=never)", "width": 3})),
        asyncio.create_task(house.ask(n=2)),
    ]
    while "fathom_trajectories_running 5.0" not in (text := await fetch(house, "/metrics")):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert "fathom_requests_running 2.0" in text
    for task in asked:
        task.cancel()
    await asyncio.wait(asked)
    while "fathom_trajectories_running 0.0" not in (text := await fetch(house, "/metrics")):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert "fathom_requests_running 0.0" in text


async def test_metrics_tell_the_breaker_s_state_without_any_request(house: House, clock: Clock) -> None:
    breaker = house.server.gateway.models["m"].behind[0].breaker
    shown = 'fathom_breaker_open{{model="m"}} {}.0'
    assert shown.format(0) in await fetch(house, "/metrics")
    for _ in range(breaker.most):
        breaker.failed()
    assert shown.format(1) in await fetch(house, "/metrics")
    clock.now += 1.05
    assert shown.format(0) in await fetch(house, "/metrics")


async def test_metrics_count_hedges_and_what_they_won(house: House, upstream: Upstream) -> None:
    for _ in range(20):  # by which it is known how long replies take
        await house.ask()
    upstream.fault = lambda number: "hang" if number == 20 else None
    assert (await house.ask()).choices[0].message.content == "The answer is 0."
    text = await fetch(house, "/metrics")
    assert 'fathom_hedges_total{model="m",what="sent"} 1.0' in text
    assert 'fathom_hedges_total{model="m",what="won"} 1.0' in text


async def test_an_upstream_that_fails_again_and_again_is_given_a_rest(
    house: House, upstream: Upstream, clock: Clock
) -> None:
    breaker = house.server.gateway.models["m"].behind[0].breaker
    breaker.most = 2
    upstream.fault = lambda number: "truncated"
    for _ in range(2):
        with pytest.raises(openai.APIError):
            async for _ in await house.ask(stream=True):
                pass
    asked = len(upstream.bodies)
    with pytest.raises(openai.InternalServerError) as caught:
        await house.ask()
    assert caught.value.code == "upstream_resting"
    assert caught.value.response.headers["Retry-After"]
    assert len(upstream.bodies) == asked


@pytest.mark.parametrize("told", [True, False])
async def test_prompts_are_logged_only_where_the_file_says_so(
    open_house: Open, caplog: pytest.LogCaptureFixture, told: bool
) -> None:
    caplog.set_level(logging.INFO, "fathom.serve")
    house = await open_house(log_prompts=told)
    await house.ask()
    assert ("17 times 23" in caplog.text) is told
    assert "/v1/chat/completions 200" in caplog.text


async def test_health_and_readiness(house: House) -> None:
    assert "ok" in await fetch(house, "/healthz")
    assert "ready" in await fetch(house, "/readyz")
    house.server.gateway.gate.closed = True
    with pytest.raises(openai.InternalServerError) as caught:
        await house.ask()
    assert caught.value.code == "shutting_down"
