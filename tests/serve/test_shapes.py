"""Log-probabilities, JSON of a given shape, biases of tokens, several answers: as OpenAI's own client asks for them."""

from __future__ import annotations

import json
import math
from typing import Any

import openai
import pytest
from house import House, Open
from upstreams import Upstream

from fathom.serve.config import ModelEntry

VOTE = {"strategy": "vote(stop=never)", "width": 5}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "number"}},
    "required": ["city"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": SCHEMA}}


def saying(*texts: str) -> Any:
    """What each draw says, by its seed, in tokens of four letters."""

    def tokens(body: dict[str, Any], choice: int) -> list[str]:
        text = texts[(body.get("seed", 0) + choice) % len(texts)]
        return [text[at : at + 4] for at in range(0, len(text), 4)]

    return tokens


# -- log-probabilities


@pytest.mark.parametrize("fathom", [None, VOTE, {"strategy": "best-of-n(judge=logprob)", "width": 2}])
async def test_logprobs_are_those_of_what_is_shown(
    house: House, upstream: Upstream, fathom: dict[str, Any] | None
) -> None:
    reply = await house.ask(logprobs=True, top_logprobs=2, seed=3, fathom=fathom)
    (choice,) = reply.choices
    told = choice.logprobs.content
    assert "".join(token.token for token in told) == choice.message.content
    assert bytes(byte for token in told for byte in token.bytes).decode() == choice.message.content
    assert [token.logprob for token in told] == [-len(token.token) / 8 for token in told]
    assert [[(top.token, top.logprob) for top in token.top_logprobs] for token in told] == [
        [("top0", 0.0), ("top1", -1.0)]
    ] * len(told)
    assert upstream.bodies[0]["top_logprobs"] == 2


async def test_without_alternatives_there_are_none(house: House) -> None:
    reply = await house.ask(logprobs=True, fathom={"strategy": "vote(confidence=mean)", "width": 2})
    assert all(token.top_logprobs == [] for token in reply.choices[0].logprobs.content)


@pytest.mark.parametrize("fathom", [None, VOTE])
async def test_logprobs_are_streamed_with_their_text(house: House, fathom: dict[str, Any] | None) -> None:
    said, told = "", ""
    async for chunk in await house.ask(stream=True, logprobs=True, fathom=fathom):
        for choice in chunk.choices:
            said += choice.delta.content or ""
            told += "".join(token.token for token in (choice.logprobs.content if choice.logprobs else ()))
    assert said == told != ""


@pytest.mark.parametrize(("fathom", "streamed"), [(None, True), (None, False), (VOTE, False)])
async def test_an_upstream_without_logprobs_is_a_refusal(
    house: House, upstream: Upstream, fathom: dict[str, Any] | None, streamed: bool
) -> None:
    upstream.logprobs = False
    for said in ("m told no log-probabilities", "m gives no log-probabilities"):  # found out once, then known
        with pytest.raises(openai.BadRequestError, match=said) as caught:
            await house.ask(logprobs=True, fathom=fathom, stream=streamed)
        assert caught.value.code == "unsupported_by_model"


# -- formats


async def test_a_format_is_passed_on_in_the_client_s_words(house: House, upstream: Upstream) -> None:
    upstream.tokens = saying('{"city": "Paris"}')
    for format in (FORMAT, {"type": "json_object"}):
        reply = await house.ask(response_format=format)
        assert json.loads(reply.choices[0].message.content) == {"city": "Paris"}
        assert reply.fathom["valid"] is True
        assert upstream.bodies[-1]["response_format"] == format
    upstream.tokens = saying("Paris, I should say")
    assert (await house.ask(response_format=FORMAT)).fathom["valid"] is False


async def test_a_vote_is_by_canonical_json(house: House, upstream: Upstream) -> None:
    upstream.tokens = saying(
        '{"city": "Rome", "days": 2}',
        '{"days": 2.0, "city": "Paris"}',
        '{"city": "Paris", "days": 2}',
        '{ "city":"Rome"}',
        '{"city":"Paris","days":20e-1}',
    )
    reply = await house.ask(response_format=FORMAT, fathom=VOTE, seed=0)
    assert [candidate["votes"] for candidate in reply.fathom["candidates"]] == [3, 1, 1]
    assert json.loads(reply.choices[0].message.content) == {"city": "Paris", "days": 2}
    assert upstream.bodies[0]["response_format"] == FORMAT
    assert all("boxed" not in turn["content"] for turn in upstream.bodies[0]["messages"])


async def test_what_is_not_of_the_shape_never_outvotes_what_is(house: House, upstream: Upstream) -> None:
    wrong = '{"town": "Paris"}'
    upstream.tokens = saying(wrong, wrong, '{"city": "Rome"}', wrong, "none")
    reply = await house.ask(response_format=FORMAT, fathom=VOTE, seed=0)
    assert reply.choices[0].message.content == '{"city": "Rome"}'
    assert reply.fathom["valid"] is True
    upstream.tokens = saying(wrong)
    assert (await house.ask(response_format=FORMAT, fathom=VOTE)).fathom["valid"] is False


async def test_a_document_that_was_cut_is_told_as_such(house: House, upstream: Upstream) -> None:
    upstream.tokens = saying('{"city": "Paris"}')
    for fathom in (None, VOTE):
        reply = await house.ask(response_format=FORMAT, max_tokens=2, fathom=fathom)
        assert reply.choices[0].finish_reason == "length"
        assert reply.fathom["valid"] is False


async def test_the_client_s_own_parsing_of_structured_outputs(house: House, upstream: Upstream) -> None:
    from pydantic import BaseModel

    class Place(BaseModel):
        city: str

    upstream.tokens = saying('{"city": "Paris"}')
    reply = await house.client.chat.completions.parse(
        model="m", messages=[{"role": "user", "content": "Where?"}], response_format=Place, reasoning_effort="low"
    )
    assert reply.choices[0].message.parsed == Place(city="Paris")


# -- biases, and several answers


async def test_biases_are_passed_on(house: House, upstream: Upstream) -> None:
    for fathom in (None, VOTE):
        await house.ask(logit_bias={"50256": -100, "7": 2.5}, fathom=fathom)
        assert upstream.bodies[-1]["logit_bias"] == {"50256": -100, "7": 2.5}


async def test_several_answers_are_ranked_by_the_search(house: House, upstream: Upstream) -> None:
    upstream.tokens = saying(*(f"\\boxed{{{said}}}." for said in ("7", "8", "8", "7.0", "8", "9")))
    fathom = {"strategy": "vote(stop=never)", "width": 6}
    reply = await house.ask(n=5, seed=0, fathom=fathom)
    assert [choice.index for choice in reply.choices] == list(range(5))
    assert [c.message.content for c in reply.choices] == [f"\\boxed{{{x}}}." for x in ("8", "7", "9", "8", "8")]
    said: dict[int, str] = {}
    finishes = []
    async for chunk in await house.ask(n=5, seed=0, fathom=fathom, stream=True):
        for choice in chunk.choices:
            said[choice.index] = said.get(choice.index, "") + (choice.delta.content or "")
            finishes += [choice.finish_reason] if choice.finish_reason else []
    assert [said[k] for k in range(5)] == [choice.message.content for choice in reply.choices]
    assert finishes == ["stop"] * 5


# -- refusals


@pytest.mark.parametrize(
    "options", [{"logprobs": True}, {"response_format": {"type": "json_object"}}, {"logit_bias": {"1": 1}}]
)
async def test_a_model_of_another_family_says_what_it_lacks(open_house: Open, options: dict[str, Any]) -> None:
    house = await open_house(entry=ModelEntry(uri="recursive:queens-8-micro"))
    with pytest.raises(openai.BadRequestError, match=r"m .*embedded") as caught:
        await house.ask(**options)
    assert (caught.value.param, caught.value.code) == (next(iter(options)), "unsupported_by_model")


@pytest.mark.slow
async def test_the_embedded_kind_of_model_can(open_house: Open) -> None:
    house = await open_house(entry=ModelEntry(uri="smollm2-135m"))
    reply = await house.ask(
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [17, 23]}}},
        logprobs=True,
        top_logprobs=3,
        max_tokens=8,
        fathom={"strategy": "vote(stop=never)", "width": 2},
    )
    assert json.loads(reply.choices[0].message.content) in (17, 23)
    assert reply.fathom["valid"] is True
    told = reply.choices[0].logprobs.content
    assert "".join(token.token for token in told) == reply.choices[0].message.content
    for token in told:
        assert len(token.top_logprobs) == 3
        assert sum(math.exp(top.logprob) for top in token.top_logprobs) <= 1 + 1e-6
    with pytest.raises(openai.BadRequestError, match="m knows no tools; openai: models do") as caught:
        await house.ask(tools=[{"type": "function", "function": {"name": "time"}}])
    assert caught.value.code == "unsupported_by_model"
    ended = await house.ask(max_tokens=1, temperature=0, logit_bias={"0": 100})  # this model's end of text
    assert (ended.choices[0].message.content, ended.choices[0].finish_reason) == ("", "stop")
