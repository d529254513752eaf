"""A gateway in front of a ladder: several upstreams that clients see as one model."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import openai
import pytest
from house import ASKED, House, Open, reserved
from upstreams import Upstream

import fathom
from fathom.errors import FathomError, UsageError
from fathom.serve.config import ModelEntry

Say = Callable[[dict[str, Any], int], list[str]]


def unheard() -> str:
    """A name of a model of which nothing was learned."""
    return f"{random.SystemRandom().getrandbits(40):x}"


def always(answer: str) -> Say:
    return lambda body, choice: ["It ", "is ", "\\boxed{", answer, "}"]


def anything(body: dict[str, Any], choice: int) -> list[str]:
    return ["It ", "is ", "\\boxed{", str(random.randrange(10**9)), "}"]


def failing(number: int) -> str:
    return "500"


@pytest.fixture
def right() -> str:
    return str(random.SystemRandom().randrange(1000, 10**6))


@pytest.fixture
def rungs(right: str) -> Iterator[tuple[Upstream, Upstream]]:
    """The small one agrees with itself on 1; the large one is right."""
    with Upstream(tokens=always("1")) as small, Upstream(tokens=always(right)) as large:
        yield small, large


async def open_ladder(open_house: Open, small: Upstream, large: Upstream, *options: str) -> House:
    first, second = options or ("", "")
    name = unheard()
    return await open_house(
        entry=ModelEntry(uri=f"ladder:openai:small-{name}@{small.url}{first},openai:large-{name}@{large.url}{second}")
    )


async def test_what_the_small_one_agrees_on_is_not_asked_of_the_large_one(
    open_house: Open, rungs: tuple[Upstream, Upstream], right: str
) -> None:
    small, large = rungs
    house = await open_ladder(open_house, small, large)
    reply = await house.ask(fathom={"within": "5s"})
    assert "\\boxed{1}" in reply.choices[0].message.content
    assert reply.model_extra["fathom"]["strategy"].startswith("auto: vote(width=3) by small")
    assert not large.bodies
    small.tokens = anything
    reply = await house.ask(fathom={"within": "5s"})
    assert right in reply.choices[0].message.content
    assert "by large" in reply.model_extra["fathom"]["strategy"]


@pytest.mark.parametrize("fathom", [None, {"within": "5s"}])
async def test_how_tokens_are_drawn_is_told_to_whichever_is_asked(
    open_house: Open, rungs: tuple[Upstream, Upstream], fathom: dict[str, Any] | None
) -> None:
    small, large = rungs
    small.tokens = anything
    house = await open_ladder(open_house, small, large, "(top_p=0.5, price=[1, 2])", "(top_p=0.5, price=[10, 20])")
    temperature = random.SystemRandom().randrange(1, 20) / 10
    await house.ask(temperature=temperature, fathom=fathom)
    asked = [*small.bodies, *large.bodies]
    assert len(asked) == (1 if fathom is None else 2)
    assert {(body["temperature"], body["top_p"]) for body in asked} == {(temperature, 0.5)}


async def test_where_no_thinking_is_asked_for_the_first_one_answers_as_it_is(
    open_house: Open, rungs: tuple[Upstream, Upstream]
) -> None:
    small, large = rungs
    house = await open_ladder(open_house, small, large)
    stream = await house.ask(stream=True)
    pieces = [chunk.choices[0].delta.content async for chunk in stream if chunk.choices]
    assert "".join(piece or "" for piece in pieces) == "It is \\boxed{1}"
    assert [body["messages"] for body in small.bodies] == [ASKED]
    assert not large.bodies


async def test_one_that_is_down_is_passed_over(open_house: Open, rungs: tuple[Upstream, Upstream], right: str) -> None:
    small, large = rungs
    house = await open_ladder(open_house, small, large)
    small.fault = failing
    reply = await house.ask(fathom={"within": "5s", "width": 8})
    assert right in reply.choices[0].message.content
    served = house.server.gateway.models["m"]
    for _ in range(served.behind[0].breaker.most):
        served.behind[0].breaker.failed()
    reply = await house.ask()
    assert right in reply.choices[0].message.content
    assert served.state == "ready"
    for _ in range(served.behind[1].breaker.most):
        served.behind[1].breaker.failed()
    assert served.state == "resting"
    with pytest.raises(openai.InternalServerError, match=r"the upstream of small-\w+ is failing"):
        await house.ask()


async def test_log_probabilities_are_told_and_nothing_tells_where_the_models_are(
    open_house: Open, rungs: tuple[Upstream, Upstream]
) -> None:
    small, large = rungs
    house = await open_ladder(open_house, small, large)
    told = await house.ask(logprobs=True)
    assert told.choices[0].logprobs.content
    for upstream in rungs:
        upstream.fault = failing
    with pytest.raises(openai.APIStatusError) as error:
        await house.ask(fathom={"within": "1s"})
    said = str(error.value)
    assert "127.0.0.1" not in said


async def test_a_ladder_can_be_made_of_models_that_are_served_by_themselves(
    open_house: Open, rungs: tuple[Upstream, Upstream], right: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = rungs
    small.tokens = anything
    monkeypatch.setenv("LARGE_KEY", "sesame")
    models = {
        "both": ModelEntry(uri="ladder:little,big"),
        "little": ModelEntry(uri=f"openai:small@{small.url}(top_p=0.25)"),
        "big": ModelEntry(uri=f"openai:large@{large.url}", api_key_env="LARGE_KEY"),
    }
    house = await open_house(models=models)
    assert [model.id async for model in house.client.models.list()] == list(models)
    reply = await house.ask(model="both", fathom={"within": "5s"})
    assert right in reply.choices[0].message.content
    assert reply.model_extra["fathom"]["strategy"].endswith("by big")
    assert large.sent_headers[-1]["Authorization"] == "Bearer sesame"
    await house.ask(model="both")
    await house.ask(model="little")
    assert [body["top_p"] for body in small.bodies[-2:]] == [0.25, 0.25]
    assert small.bodies[-1]["messages"] == small.bodies[-2]["messages"]
    served = house.server.gateway.models
    assert served["both"].behind == served["little"].behind + served["big"].behind


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("ladder:little,nobody", "nobody has no table of its own, nor is it a model's name"),
        ("ladder:little,more", "more is a ladder itself"),
        ("ladder:little,ladder:embedded", "ladder:embedded is a ladder itself"),
        ("ladder:little,big(temperature=0.1)", "in their own tables"),
        ("ladder:little", "two models or more"),
    ],
)
async def test_a_ladder_of_what_is_not_there_says_what_is_missing(
    open_house: Open, rungs: tuple[Upstream, Upstream], uri: str, said: str
) -> None:
    small, large = rungs
    models = {
        "little": ModelEntry(uri=f"openai:small@{small.url}"),
        "big": ModelEntry(uri=f"openai:large@{large.url}"),
        "more": ModelEntry(uri="ladder:little,big"),
        "both": ModelEntry(uri=uri),
    }
    with pytest.raises(UsageError, match=said):
        await open_house(models=models)


async def test_models_of_a_ladder_that_have_no_table_are_opened_for_it(
    open_house: Open, rungs: tuple[Upstream, Upstream], right: str
) -> None:
    small, large = rungs
    small.tokens = anything
    models = {
        "little": ModelEntry(uri=f"openai:{unheard()}@{small.url}(price=[0, 0])"),
        "both": ModelEntry(uri=f"ladder:little,openai:large-{unheard()}@{large.url}(price=[1e6, 2e6])"),
    }
    house = await open_house(models=models)
    assert [model.id async for model in house.client.models.list()] == list(models)
    reply = await house.ask(model="both", fathom={"within": "5s"})
    assert right in reply.choices[0].message.content
    assert "by little" in reply.model_extra["fathom"]["strategy"]
    assert reply.model_extra["fathom"]["strategy"].partition(" | ")[2].startswith("vote(width=16) by large")
    assert reply.model_extra["fathom"]["spent"]["cost"] > 0
    served = house.server.gateway.models
    assert served["both"].behind == served["little"].behind + served["both"].own
    await house.server.__aexit__()
    with pytest.raises(FathomError, match="closed"):
        await fathom.asolve(served["both"].own[0].model, "What is 6 times 7?")


async def test_one_that_is_not_there_when_the_gateway_starts_is_asked_when_it_comes(
    open_house: Open, rungs: tuple[Upstream, Upstream], right: str
) -> None:
    small, _ = rungs
    with reserved() as port:
        uri = f"ladder:openai:{unheard()}@{small.url},openai:{unheard()}@http://127.0.0.1:{port}/v1"
        house = await open_house(entry=ModelEntry(uri=uri))
        served = house.server.gateway.models["m"]
        assert [one.breaker.state for one in served.behind] == ["ready", "absent"]
        small.tokens = anything
        reply = await house.ask(fathom={"within": "2s"})
        assert right not in reply.choices[0].message.content
        with Upstream(port=port, tokens=always(right)):
            while served.behind[1].breaker.state != "ready":  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.05)
            reply = await house.ask(fathom={"within": "5s"})
            assert right in reply.choices[0].message.content


async def test_what_a_tables_uri_says_of_its_price_is_charged(open_house: Open, upstream: Upstream) -> None:
    house = await open_house(entry=ModelEntry(uri=f"openai:m@{upstream.url}(price=[0, 1e6])"))
    reply = await house.ask(fathom={"strategy": "vote", "width": 4})
    spent = reply.model_extra["fathom"]["spent"]
    assert spent["cost"] == pytest.approx(reply.usage.completion_tokens)
    with pytest.raises(UsageError, match="no option 'prize'"):
        await open_house(entry=ModelEntry(uri=f"openai:m@{upstream.url}(prize=[0, 1e6])"))


@pytest.mark.parametrize("within", ["1s", "5s"])
async def test_the_playground_hears_all_of_them(
    open_house: Open, rungs: tuple[Upstream, Upstream], right: str, within: str
) -> None:
    small, large = rungs
    small.tokens = anything
    house = await open_ladder(open_house, small, large)
    body = {"model": "m", "messages": ASKED, "fathom": {"within": within}}
    async with aiohttp.ClientSession() as client, client.post(house.url + "/v1/fathom/stream", json=body) as reply:
        told = await reply.text()
    assert reply.status == 200
    assert right in told
    assert "by large" in told
