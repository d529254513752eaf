"""Streamed chat completions."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import openai
import pytest
from house import ASKED, Held, House
from upstreams import Upstream
from waiting import until


async def test_a_plain_completion_comes_token_by_token(house: House, upstream: Upstream) -> None:
    upstream.step = 0.01
    said, finishes, usage, last = [], [], None, None
    async for chunk in await house.ask(stream=True, stream_options={"include_usage": True}, seed=4):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            said.append(choice.delta.content or "")
            finishes.append(choice.finish_reason)
        last = getattr(chunk, "fathom", None) or last
    assert "".join(said) == "The answer is 4."
    assert len([text for text in said if text]) > 1
    assert finishes[-1] == "stop"
    assert set(finishes[:-1]) == {None}
    assert usage is not None
    assert usage.completion_tokens == 5
    assert last is not None
    assert last["spent"]["tokens"] == 5


async def test_a_search_tells_how_it_stands_and_then_answers(house: House, upstream: Held) -> None:
    upstream.many, upstream.step = 1, 0.005
    upstream.fault = lambda number: "held" if number == 3 else None
    chunks = []
    async for chunk in await house.ask(
        stream=True, stream_options={"include_usage": True}, fathom={"strategy": "vote(stop=never)", "width": 4}
    ):
        upstream.freed = True  # the last sample comes once something was told of the others
        chunks.append(chunk)
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    thoughts = [thought for delta in deltas if (thought := getattr(delta, "reasoning_content", None))]
    content = "".join(delta.content or "" for delta in deltas)
    assert thoughts
    assert "thinking" in thoughts[0]
    assert content.startswith("The answer is ")
    assert deltas[0].role == "assistant"
    receipt = chunks[-2].fathom
    assert receipt["answer"] in content
    assert sum(candidate["votes"] for candidate in receipt["candidates"]) == 4
    usage = chunks[-1].usage
    assert (usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens) == (20, 15)


async def test_without_being_asked_no_usage_is_sent(house: House) -> None:
    assert all(chunk.usage is None for chunk in [chunk async for chunk in await house.ask(stream=True)])


@pytest.mark.parametrize("fathom", [None, {"strategy": "vote", "width": 2}])
async def test_what_goes_wrong_before_the_first_event_has_a_status(
    house: House, upstream: Upstream, fathom: dict[str, Any] | None
) -> None:
    upstream.fault = lambda number: "400"
    with pytest.raises(openai.APIStatusError):
        await house.ask(stream=True, fathom=fathom)


async def test_what_goes_wrong_later_is_an_event(house: House, upstream: Upstream) -> None:
    upstream.fault = lambda number: "truncated"
    with pytest.raises(openai.APIError, match="broke"):
        async for _ in await house.ask(stream=True):
            pass


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("strategy", ["direct", "vote(width=4)"])
async def test_a_client_that_leaves_ends_all_work(
    house: House, upstream: Upstream, streamed: bool, strategy: str
) -> None:
    upstream.delay, upstream.many = 3600.0, 1
    body = {"model": "m", "messages": ASKED, "stream": streamed, "fathom": {"strategy": strategy, "within": "60s"}}
    gate = house.server.gateway.gate
    async with aiohttp.ClientSession() as session:
        asked = asyncio.create_task(session.post(house.url + "/v1/chat/completions", json=body))
        await until(lambda: upstream.running)
        asked.cancel()
        await asyncio.wait([asked])
        await until(lambda: not upstream.running and not gate.running)


async def test_a_client_that_leaves_in_the_midst_of_a_stream_ends_all_work(house: House, upstream: Upstream) -> None:
    upstream.step = 3600.0
    stream = await house.ask(stream=True)
    async for _ in stream:
        break
    await stream.close()
    await until(lambda: not upstream.running)


async def test_many_at_once_get_their_own_answers(house: House) -> None:
    async def one(seed: int) -> str:
        return "".join([c.choices[0].delta.content or "" async for c in await house.ask(stream=True, seed=seed)])

    answers = await asyncio.gather(*map(one, range(40)))
    assert answers == [f"The answer is {seed}." for seed in range(40)]
