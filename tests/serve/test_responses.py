"""Responses, OpenAI's newer form, through its own client."""

from __future__ import annotations

import openai
import pytest
from house import House
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


@pytest.mark.parametrize("fathom", [{}, {"strategy": "vote", "width": 2}])
async def test_a_streamed_response(house: House, upstream: Upstream, fathom: dict[str, object]) -> None:
    upstream.step = 0.01
    stream = await house.client.responses.create(model="m", input="hi", stream=True, extra_body={"fathom": fathom})
    events = [event async for event in stream]
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[0].type == "response.created"
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == said
    assert said.startswith("The answer is")
    assert [event.sequence_number for event in events] == list(range(len(events)))


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
    assert caught.value.code == "missing_parameter"


async def test_what_needs_storage_is_refused(house: House) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await house.client.responses.create(model="m", input="hi", previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"
