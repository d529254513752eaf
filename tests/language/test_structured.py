"""Documents and tool calls as answers of a language model, on the scripted engine."""

from __future__ import annotations

import random

import pytest

import fathom
from fathom.errors import CapabilityError
from fathom.language.engines.base import Prompt, Sampling
from fathom.language.engines.scripted import ScriptedEngine
from fathom.language.model import LanguageModel
from fathom.records import Message, Problem, Tools

SPELLINGS = ('{"a": 1, "b": [2]}', '{"b":[2.0],"a":1}', '{ "a": 1e0, "b": [ 2 ] }')


def places(prompt: Prompt, rng: random.Random) -> str:
    assert all("boxed" not in message.content for message in prompt.messages)
    return rng.choice((*SPELLINGS, '{"a": 1}', "I do not know"))


async def test_documents_vote_by_meaning_and_within_their_schema() -> None:
    model = LanguageModel(ScriptedEngine(places), sampling=Sampling(schema={"required": ["b"]}))
    result = await fathom.asolve(model, "Where?", strategy="vote(width=30, stop=never)", seed=3)
    assert result.answer in SPELLINGS
    first, *others = result.receipt.candidates
    assert first.votes > max(candidate.votes for candidate in others)
    spoken = [t for t in result.trajectories if t.answer in SPELLINGS]
    assert len({t.key for t in spoken}) == 1
    assert all(t.parsed == (t in spoken) for t in result.trajectories)


async def test_a_trajectory_has_the_bytes_of_its_tokens() -> None:
    model = LanguageModel(ScriptedEngine({"7": 1.0}), sampling=Sampling(logprobs=True, top_logprobs=2))
    result = await fathom.asolve(model, "How many?", strategy="vote(width=2)")
    assert result.best is not None
    assert b"".join(result.best.spelled).decode() == result.text == result.best.text
    assert len(result.best.spelled) == len(result.best.logprobs) == len(result.best.likeliest)


async def test_a_model_without_tools_refuses_a_problem_with_them() -> None:
    problem = Problem((Message("user", "What is the time?"),), Tools(({"function": {"name": "time"}},)))
    with pytest.raises(CapabilityError, match="tools"):
        await fathom.asolve(LanguageModel(ScriptedEngine({"7": 1.0})), problem, strategy="vote")


def test_a_chat_with_tool_calls_is_read() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "time", "arguments": "{}"}}
    problem = Problem.of(
        [
            {"role": "user", "content": "What is the time?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "noon"},
        ]
    )
    assert problem.text == "What is the time?"
    assert problem.messages[1].tool_calls[0].name == "time"
    assert problem.messages[2].tool_call_id == "c1"
    for broken in ({"role": "assistant", "content": None}, {"role": "assistant", "content": "", "tool_calls": [{}]}):
        with pytest.raises(fathom.UsageError):
            Problem.of([broken, {"role": "user", "content": "?"}])
