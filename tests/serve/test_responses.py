"""Responses, OpenAI's newer form, through its own client."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import openai
import pytest
from house import Held, House
from upstreams import Upstream


async def test_a_plain_response(house: House, upstream: Upstream) -> None:
    reply = await house.client.responses.create(model="m", input="hi", instructions="Be brief.", temperature=0.5)
    assert reply.output_text == "The answer is 0."
    assert reply.status == "completed"
    assert reply.usage is not None
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (11, 5)
    (sent,) = upstream.bodies
    assert [turn["role"] for turn in sent["messages"]] == ["system", "user"]
    assert sent["temperature"] == 0.5


async def test_an_effort_and_the_turns_of_a_conversation(house: House, upstream: Upstream) -> None:
    turns = [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "yes?", "annotations": []}]},
        {"role": "user", "content": "What is 17 * 23?"},
    ]
    reply = await house.client.responses.create(
        model="m",
        input=turns,  # type: ignore[arg-type]
        reasoning={"effort": "low"},
        extra_body={"fathom": {"strategy": "vote(stop=never)", "width": 3}},
    )
    assert reply.fathom["spent"]["width"] == 3  # type: ignore[attr-defined]
    assert reply.output_text.startswith("The answer is")
    assert reply.usage is not None
    assert reply.usage.output_tokens_details.reasoning_tokens == 10


@pytest.mark.parametrize("fathom", [{}, {"strategy": "vote(stop=never)", "width": 3}])
async def test_a_streamed_response(house: House, upstream: Held, fathom: dict[str, object]) -> None:
    upstream.step, upstream.many = 0.01, 1
    upstream.fault = lambda number: "held" if number == 2 else None
    stream = await house.client.responses.create(model="m", input="hi", stream=True, extra_body={"fathom": fathom})
    events = []
    async for event in stream:
        upstream.freed = "reasoning" in event.type or upstream.freed  # the last comes once others were told of
        events.append(event)
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[0].type == "response.created"
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == said
    assert said.startswith("The answer is")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    thoughts = [event.delta for event in events if event.type == "response.reasoning_summary_text.delta"]
    assert bool(thoughts) is bool(fathom)
    again = await house.client.responses.create(
        model="m", input=[*last.response.output, {"role": "user", "content": "?"}]
    )  # type: ignore[list-item]
    assert again.status == "completed"
    assert [turn["role"] for turn in upstream.bodies[-1]["messages"]] == ["assistant", "user"]


async def test_what_fails_in_the_midst_of_a_stream_is_told_there(house: House, upstream: Upstream) -> None:
    upstream.fault = lambda number: "truncated"
    events = [event async for event in await house.client.responses.create(model="m", input="hi", stream=True)]
    assert events[-1].type == "error"
    assert events[-1].code == "upstream_failed"
    assert "127.0.0.1" not in events[-1].message


async def test_a_model_s_own_thoughts_are_told_apart(house: House, upstream: Upstream) -> None:
    upstream.whole = {
        "choices": [{"message": {"content": "391", "reasoning_content": "17 * 23"}, "finish_reason": "stop"}]
    }
    reply = await house.client.responses.create(model="m", input="hi")
    assert [item.type for item in reply.output] == ["reasoning", "message"]
    assert reply.output[0].summary[0].text == "17 * 23"  # type: ignore[union-attr]
    assert reply.output_text == "391"


async def test_a_length_that_was_reached_makes_it_incomplete(house: House) -> None:
    reply = await house.client.responses.create(model="m", input="hi", max_output_tokens=2)
    assert reply.status == "incomplete"
    assert reply.output_text == "The answer"


@pytest.mark.parametrize("effort", ["none", "low"])
async def test_a_format_is_held_to(house: House, upstream: Upstream, effort: str) -> None:
    upstream.tokens = lambda body, choice: ['{"city": ', '"Paris"}']
    schema = {"type": "object", "required": ["city"]}
    format = {"type": "json_schema", "name": "place", "schema": schema, "strict": False}
    reply = await house.client.responses.create(
        model="m",
        input="Where?",
        text={"format": format},  # type: ignore[arg-type]
        reasoning={"effort": effort},  # type: ignore[typeddict-item]
    )
    assert reply.output_text == '{"city": "Paris"}'
    assert reply.fathom["valid"] is True  # type: ignore[attr-defined]
    sent = upstream.bodies[0]["response_format"]
    assert sent == {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": False}}
    with pytest.raises(openai.BadRequestError) as caught:
        await house.client.responses.create(model="m", input="?", text={"format": {"type": "json_schema"}})  # type: ignore[typeddict-item]
    assert (caught.value.param, caught.value.code) == ("text.format", "missing_parameter")


WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
TIME: Any = {"type": "function", "name": "time", "parameters": None, "strict": None}
VOTE = {"strategy": "vote(stop=never)", "width": 3}


def called(*calls: tuple[str, str]) -> Callable[[dict[str, Any], int], list[tuple[str, str]]]:
    """An upstream that makes these calls, whatever it is asked."""
    return lambda body, choice: list(calls)


@pytest.mark.parametrize("fathom", [{}, VOTE])
async def test_calls_of_functions_and_their_outputs_go_round(
    house: House, upstream: Upstream, fathom: dict[str, object]
) -> None:
    upstream.calls = called(("weather", '{"city": "Paris"}'), ("time", "{}"))
    extra = {"fathom": fathom}
    ask = partial(house.client.responses.create, model="m", tools=[WEATHER, TIME], extra_body=extra)
    first = await ask(input="Rain?", tool_choice={"type": "function", "name": "weather"}, parallel_tool_calls=True)
    assert [(call.type, call.name, call.arguments) for call in first.output] == [
        ("function_call", "weather", '{"city": "Paris"}'),
        ("function_call", "time", "{}"),
    ]
    assert first.status == "completed"
    sent = upstream.bodies[0]
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["weather", "time"]
    assert sent["tools"][0]["function"]["parameters"] == WEATHER["parameters"]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    upstream.calls = None
    outputs = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"} for call in first.output]
    second = await ask(input=[{"role": "user", "content": "Rain?"}, *first.output, *outputs])
    assert second.output_text.startswith("The answer is")
    turns = upstream.bodies[-1]["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "tool", "tool"]
    assert [call["function"]["name"] for call in turns[1]["tool_calls"]] == ["weather", "time"]
    assert [turn["tool_call_id"] for turn in turns[2:]] == [call.call_id for call in first.output]


@pytest.mark.parametrize("fathom", [{}, VOTE])
async def test_calls_are_streamed_as_the_client_expects(
    house: House, upstream: Upstream, fathom: dict[str, object]
) -> None:
    upstream.calls = called(("weather", '{"city": "Paris"}'), ("time", "{}"))
    async with house.client.responses.stream(
        model="m", input="Rain?", tools=[WEATHER, TIME], extra_body={"fathom": fathom}
    ) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    for kind in ("response.output_item.added", "response.output_item.done"):
        assert [event.item.type for event in events if event.type == kind].count("function_call") == 2  # type: ignore[union-attr]
    done = [event for event in events if event.type == "response.function_call_arguments.done"]
    for event in done:
        parts = [
            delta.delta
            for delta in events
            if delta.type == "response.function_call_arguments.delta" and delta.item_id == event.item_id
        ]
        assert "".join(parts) == event.arguments
    assert [event.arguments for event in done] == ['{"city": "Paris"}', "{}"]
    assert [item.name for item in final.output if item.type == "function_call"] == ["weather", "time"]


@pytest.mark.parametrize(
    ("options", "param", "code"),
    [
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "invalid_value"),
        ({"input": [{"type": "function_call_output", "call_id": "x", "output": "?"}]}, "input[0].call_id", None),
        ({"input": [{"role": "user"}]}, "input[0].content", "missing_parameter"),
        ({"input": [{"role": "user", "content": "hi", "output": "?"}]}, "input[0].output", "unknown_parameter"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content", None),
        ({"tools": [TIME], "extra_body": {"fathom": {"strategy": "beam"}}}, "tools", "unsupported_parameter"),
    ],
)
async def test_what_makes_no_sense_has_its_own_name_here(
    house: House, upstream: Upstream, options: dict[str, Any], param: str, code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await house.client.responses.create(**{"model": "m", "input": "hi", **options})
    assert caught.value.param == param
    assert code in (None, caught.value.code)
    assert not upstream.bodies


async def test_what_needs_storage_is_refused(house: House) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await house.client.responses.create(model="m", input="hi", previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"
