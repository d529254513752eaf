"""Tool calls through the gateway, as OpenAI's own client makes and reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from house import ASKED, House, Open
from hypothesis import given
from hypothesis import strategies as st
from upstreams import Upstream

from fathom.language.structured import read_calls
from fathom.records import ToolCall, Tools
from fathom.serve.config import ModelEntry

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather somewhere.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "number"}}},
        "strict": False,
    },
}
TIME = {"type": "function", "function": {"name": "time"}}
TOOLS = [WEATHER, TIME]
VOTE = {"strategy": "vote(stop=never)", "width": 6}

Calls = Callable[[dict[str, Any], int], list[tuple[str, str]]]


def by_draw(*draws: list[tuple[str, str]]) -> Calls:
    """What each draw calls, by its seed."""
    return lambda body, choice: draws[(body.get("seed", 0) + choice) % len(draws)]


async def test_a_call_travels_to_the_upstream_and_back(house: House, upstream: Upstream) -> None:
    upstream.calls = by_draw([("weather", '{"city": "Paris"}'), ("time", "{}")])
    reply = await house.ask(tools=TOOLS, tool_choice="auto", parallel_tool_calls=True)
    choice = reply.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    called = [(call.type, call.function.name, call.function.arguments) for call in choice.message.tool_calls]
    assert called == [("function", "weather", '{"city": "Paris"}'), ("function", "time", "{}")]
    (sent,) = upstream.bodies
    assert (sent["tools"], sent["tool_choice"], sent["parallel_tool_calls"]) == (TOOLS, "auto", True)


async def test_results_are_sent_on_faithfully(house: House, upstream: Upstream) -> None:
    upstream.calls = by_draw([("weather", '{"city": "Paris"}')])
    first = await house.ask(tools=TOOLS)
    called = first.choices[0].message.model_dump(exclude_none=True)
    result = {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"], "content": "rain"}
    upstream.calls = None
    for fathom in (None, {"strategy": "vote", "width": 2}):
        reply = await house.ask(tools=TOOLS, messages=[*ASKED, called, result], fathom=fathom)
        assert reply.choices[0].message.content.startswith("The answer is")
        assert reply.choices[0].finish_reason == "stop"
        assert upstream.bodies[-1]["messages"] == [*ASKED, {"content": None, **called}, result]
        assert upstream.bodies[-1]["tools"] == TOOLS


async def test_a_named_tool_is_demanded_upstream(house: House, upstream: Upstream) -> None:
    demanded = {"type": "function", "function": {"name": "time"}}
    upstream.calls = by_draw([("time", "{}")])
    await house.ask(tools=TOOLS, tool_choice=demanded, parallel_tool_calls=False)
    assert (upstream.bodies[0]["tool_choice"], upstream.bodies[0]["parallel_tool_calls"]) == (demanded, False)


@pytest.mark.parametrize("fathom", [None, VOTE])
async def test_calls_are_streamed(house: House, upstream: Upstream, fathom: dict[str, Any] | None) -> None:
    upstream.calls = by_draw([("weather", '{"city": "Paris", "days": 2}'), ("time", "{}")])
    finishes = []
    calls: dict[int, list[str]] = {}
    ids: dict[int, str] = {}
    async for chunk in await house.ask(tools=TOOLS, stream=True, fathom=fathom):
        for choice in chunk.choices:
            finishes.append(choice.finish_reason)
            for part in choice.delta.tool_calls or ():
                ids.setdefault(part.index, part.id)
                calls.setdefault(part.index, []).append((part.function.name or "") + (part.function.arguments or ""))
    assert finishes[-1] == "tool_calls"
    assert {at: "".join(parts) for at, parts in calls.items()} == {
        0: 'weather{"city": "Paris", "days": 2}',
        1: "time{}",
    }
    assert all(ids.values())


async def test_the_client_s_own_accumulation_of_a_stream_understands_it(house: House, upstream: Upstream) -> None:
    upstream.calls = by_draw([("weather", '{"city": "Paris"}')])
    async with house.client.chat.completions.stream(model="m", messages=ASKED, tools=TOOLS) as stream:  # type: ignore[arg-type]
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or ()
    assert call.function.arguments == '{"city": "Paris"}'  # type: ignore[union-attr]


async def test_calls_vote_by_name_and_canonical_arguments(house: House, upstream: Upstream) -> None:
    upstream.calls = by_draw(
        [("weather", '{"city": "Paris", "days": 2}')],
        [("weather", '{ "days":2.0, "city":"Paris" }')],
        [("weather", '{"city": "Rome", "days": 2}')],
        [("time", "{}")],
        [("time", "")],
        [("weather", '{"days": 20e-1, "city": "\\u0050aris"}')],
    )
    reply = await house.ask(tools=TOOLS, seed=0, fathom=VOTE)
    assert [candidate["votes"] for candidate in reply.fathom["candidates"]] == [3, 2, 1]
    (call,) = reply.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris", "days": 2}
    assert reply.choices[0].finish_reason == "tool_calls"


async def test_to_call_and_to_answer_in_words_are_different_answers(house: House, upstream: Upstream) -> None:
    """The texts of the upstream all differ: they agree in that words are the answer."""
    call = [("time", "{}")]
    upstream.calls = by_draw([], call, [], call, [], [])
    reply = await house.ask(tools=TOOLS, seed=0, fathom=VOTE)
    assert [candidate["votes"] for candidate in reply.fathom["candidates"]] == [4, 2]
    assert reply.choices[0].message.content == "The answer is 0."
    upstream.calls = by_draw(call, call, [], call, [], call)
    reply = await house.ask(tools=TOOLS, seed=0, fathom=VOTE)
    assert [candidate["votes"] for candidate in reply.fathom["candidates"]] == [4, 2]
    assert reply.choices[0].message.tool_calls


async def test_what_is_no_call_of_an_offered_tool_never_outvotes_one_that_is(house: House, upstream: Upstream) -> None:
    broken, foreign = [("weather", '{"city": ')], [("rm", "{}")]
    upstream.calls = by_draw(broken, foreign, [("time", "{}")], foreign, foreign, broken)
    reply = await house.ask(tools=TOOLS, seed=0, fathom=VOTE)
    assert reply.fathom["answer"] == "time({})"
    assert [candidate["votes"] for candidate in reply.fathom["candidates"]] == [1, 3, 2]


async def test_an_effort_with_tools_is_a_vote(house: House, upstream: Upstream) -> None:
    upstream.calls = by_draw([("time", "{}")])
    reply = await house.ask(tools=TOOLS, reasoning_effort="low")
    assert reply.fathom["strategy"] == "vote"
    assert reply.choices[0].message.tool_calls


async def test_a_model_without_tools_says_who_has_them(open_house: Open) -> None:
    house = await open_house(entry=ModelEntry(uri="recursive:queens-8-micro"))
    with pytest.raises(openai.BadRequestError, match="m knows no tools; openai: models do") as caught:
        await house.ask(tools=TOOLS)
    assert (caught.value.param, caught.value.code) == ("tools", "unsupported_by_model")


@pytest.mark.slow
async def test_the_embedded_model_calls_tools(open_house: Open) -> None:
    house = await open_house(entry=ModelEntry(uri="qwen2.5-coder-0.5b"))
    demanded = {"type": "function", "function": {"name": "time"}}
    reply = await house.ask(tools=TOOLS, tool_choice=demanded, max_tokens=64, temperature=0)
    (call,) = reply.choices[0].message.tool_calls
    assert (call.function.name, reply.choices[0].finish_reason) == ("time", "tool_calls")
    assert isinstance(json.loads(call.function.arguments), dict)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.lists(st.tuples(st.sampled_from(["weather", "time"]), st.dictionaries(st.text(max_size=3), JSON)), min_size=1)
)
def test_the_order_of_calls_counts_and_that_of_keys_does_not(calls: list[tuple[str, dict[str, Any]]]) -> None:
    def key(said: list[tuple[str, dict[str, Any]]], **style: Any) -> tuple[str, bool]:
        written = [ToolCall("", name, json.dumps(arguments, **style)) for name, arguments in said]
        return read_calls(written, Tools(tuple(TOOLS)))[1:]

    turned = [(name, dict(reversed(arguments.items()))) for name, arguments in calls]
    assert key(calls) == key(turned, indent=1, ensure_ascii=False)
    assert key(calls)[1]
    mirrored = json.dumps(calls, sort_keys=True) == json.dumps(calls[::-1], sort_keys=True)
    assert (key(calls) == key(calls[::-1])) == mirrored
