"""Tool calls as servers really write them: in parts, without ids or indices, with arguments that are no text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from heard import hear, request
from upstreams import Upstream

from fathom.language.choice import Choice
from fathom.language.engines.base import Finish
from fathom.language.engines.openai import OpenAIEngine
from fathom.records import ToolCall


async def called(stream: bool, deltas: list[dict[str, Any]]) -> tuple[ToolCall, ...]:
    """What becomes of these deltas, or of the first of them as a whole message."""
    events = [f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}]})}" for delta in deltas]
    ending = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    whole = {"choices": [{"index": 0, "message": {"content": None, **deltas[0]}, "finish_reason": "tool_calls"}]}
    with Upstream(events=[*events, f"data: {json.dumps(ending)}", "data: [DONE]"], whole=whole) as server:
        engine = OpenAIEngine("m", server.url)
        (heard,) = await hear(engine, request(stream=stream))
        await engine.aclose()
    assert heard.finish is Finish.STOP
    choice = Choice()
    for piece in heard.pieces:
        choice.add(piece)
    return choice.tool_calls


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_call_without_an_id_gets_one(stream: bool) -> None:
    calls = [{"function": {"name": "time", "arguments": "{}"}}, {"id": "", "function": {"name": "date"}}]
    first, second = await called(stream, [{"tool_calls": calls}])
    assert (first.name, first.arguments, second.name, second.arguments) == ("time", "{}", "date", "")
    assert first.id
    assert second.id
    assert first.id != second.id


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_arguments_that_are_no_text_become_it(stream: bool) -> None:
    (call,) = await called(stream, [{"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"a": [1]}}}]}])
    assert call.id == "c"
    assert json.loads(call.arguments) == {"a": [1]}


async def test_the_parts_of_several_calls_are_put_together() -> None:
    parts = [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"x"'}},
        {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{"}},
        {"index": 0, "function": {"arguments": ": 1}"}},
        {"index": 1, "function": {"arguments": "}"}},
    ]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}, *({"tool_calls": [part]} for part in parts)]
    assert await called(True, deltas) == (ToolCall("a", "f", '{"x": 1}'), ToolCall("b", "g", "{}"))
