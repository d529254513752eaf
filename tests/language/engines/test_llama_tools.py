"""Tools in the embedded engine: told of by the template, called, demanded and forbidden."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from fathom.errors import CapabilityError
from fathom.language.choice import Choice
from fathom.language.download import obtain
from fathom.language.engines.base import EngineCapability, Prompt, Request, Sampling
from fathom.language.engines.llama import LlamaEngine
from fathom.records import Message, ToolCall, Tools

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def coder() -> Iterator[LlamaEngine]:
    engine = LlamaEngine(obtain("qwen2.5-coder-0.5b"), context=1024, max_width=4)
    yield engine
    asyncio.run(engine.aclose())


def told_of(*names: str) -> tuple[dict[str, Any], ...]:
    """Functions with one argument, a city."""
    city = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    }
    return tuple(
        {"type": "function", "function": {"name": name, "description": f"The {name} in a city.", "parameters": city}}
        for name in names
    )


async def called(
    engine: LlamaEngine, text: str, tools: Tools, *, most: int = 160, **sampling: Any
) -> tuple[str, tuple[ToolCall, ...]]:
    """What an answer says, and what it calls."""
    choice = Choice()
    prompt = Prompt((Message("user", text),), tools=tools)
    request = Request(prompt, max_tokens=most, seed=random.randrange(999), sampling=Sampling(**sampling))
    async with engine.generate(request) as generation:
        async for piece in generation:
            choice.add(piece)
    return "".join(choice.text), choice.tool_calls


async def test_a_model_calls_a_tool(coder: LlamaEngine) -> None:
    city = random.choice(["Lima", "Oslo", "Cairo", "Madrid", "Toronto", "Nairobi", "Sydney", "Berlin"])
    text, calls = await called(coder, f"What is the weather in {city}?", Tools(told_of("weather")), temperature=0.0)
    assert (text, [(call.name, json.loads(call.arguments)) for call in calls]) == ("", [("weather", {"city": city})])
    assert EngineCapability.TOOLS in coder.traits.capabilities


async def test_a_call_can_be_demanded_and_forbidden(coder: LlamaEngine) -> None:
    offered, name = told_of("weather", "mayor"), "mayor"
    named = Tools(offered, {"type": "function", "function": {"name": name}})
    _, (call,) = await called(coder, "What is the weather in Rome?", named, temperature=0.5)
    assert call.name == name
    assert json.loads(call.arguments).keys() >= {"city"}
    _, calls = await called(coder, "Hello!", Tools(offered, "required", parallel=False), temperature=0.5)
    assert len(calls) == 1
    text, calls = await called(coder, "What is the weather in Rome?", Tools(offered, "none"), most=4, temperature=0.0)
    assert text
    assert calls == ()


async def test_a_call_that_is_demanded_is_held_to_its_form_with_a_draft_model() -> None:
    path = obtain("qwen2.5-coder-0.5b")
    engine = LlamaEngine(path, context=512, draft=path, draft_length=3)
    _, (call,) = await called(engine, "Hello!", Tools(told_of("mayor"), "required", False), temperature=1.0)
    assert call.name == "mayor"
    assert json.loads(call.arguments).keys() >= {"city"}
    await engine.aclose()


async def test_words_follow_a_schema_where_a_tool_may_be_called_instead(coder: LlamaEngine) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    text, calls = await called(coder, "Say a number.", Tools(told_of("weather")), temperature=0.0, schema=schema)
    assert calls or json.loads(text)["n"] in (1, 2)


async def test_a_model_whose_template_knows_no_tools_is_told_of_none() -> None:
    engine = LlamaEngine(obtain("smollm2-135m"), context=512)
    assert EngineCapability.TOOLS not in engine.traits.capabilities
    with pytest.raises(CapabilityError, match="chat template"):
        await called(engine, "What is the weather in Rome?", Tools(told_of("weather")))
    await engine.aclose()
