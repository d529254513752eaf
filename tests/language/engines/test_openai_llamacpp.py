"""Against a real server with a real model: llama.cpp's, by HTTP."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from heard import Heard, hear, request

from fathom.errors import UpstreamError
from fathom.language.download import obtain
from fathom.language.engines.base import EngineCapability, Finish, Sampling
from fathom.language.engines.openai import OpenAIEngine

pytestmark = pytest.mark.slow
GREEDY = Sampling(temperature=0.0)
whole_or_streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    command = [sys.executable, str(Path(__file__).with_name("llama_server.py")), str(obtain("smollm2-135m"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def counted(choice: Heard) -> int:
    """The tokens by their log-probabilities; the one that ends a turn may have none."""
    return len(choice.logprobs) + (choice.finish is Finish.STOP and choice.tokens > len(choice.logprobs))


@whole_or_streamed
@pytest.mark.parametrize("n", [1, 4, 6])
async def test_tokens_are_counted_choice_by_choice(url: str, n: int, stream: bool) -> None:
    engine = OpenAIEngine("m", url)
    whole = {"grammar": r"root ::= [ -~\n]*"}  # of a character that was cut the server tells no log-probability
    sampling = Sampling(temperature=1.0, logprobs=True, top_logprobs=2, extra=whole)
    for _ in range(1 if stream else 2):  # the first whole reply tells that this server counts one choice
        asked = request(question="Say hello.", n=n, seed=3, max_tokens=6, stream=stream, sampling=sampling)
        for choice in await hear(engine, asked):
            assert choice.finish in (Finish.STOP, Finish.LENGTH)
            assert choice.tokens == counted(choice)
            assert choice.tokens == 6 or choice.finish is Finish.STOP
            assert all(len(top) == 2 for top in choice.top_logprobs)
            assert all(logprob <= 0 for logprob in choice.logprobs)
            assert not choice.last.estimated
    await engine.aclose()


async def test_whole_and_streamed_say_the_same(url: str) -> None:
    engine = OpenAIEngine("m", url)
    said = [
        [choice.text for choice in await hear(engine, request(n=2, max_tokens=8, sampling=GREEDY, stream=stream))]
        for stream in (False, True, False)
    ]
    await engine.aclose()
    assert said[0] == said[1] == said[2]
    assert all(said[0])


@whole_or_streamed
async def test_a_begun_turn_is_continued(url: str, stream: bool) -> None:
    engine = OpenAIEngine("m", url)
    question = "Count from one to ten in words."
    asked = request(question=question, prefix="One, two, three,", max_tokens=6, stream=stream, sampling=GREEDY)
    (choice,) = await hear(engine, asked)
    await engine.aclose()
    assert choice.text.startswith(" four, five")
    assert EngineCapability.PREFIX in engine.traits.capabilities
    assert engine.traits.context_length == 512
    assert engine.traits.parameters == 134_515_008


@whole_or_streamed
async def test_too_long_a_prompt_fails_with_what_the_server_says(url: str, stream: bool) -> None:
    engine = OpenAIEngine("m", url)
    (choice,) = await hear(engine, request(question="word " * 700, stream=stream))
    await engine.aclose()
    assert isinstance(choice.error, UpstreamError)
    assert choice.error.status == 400
    assert "context" in str(choice.error)


async def test_a_schema_shapes_the_answer(url: str) -> None:
    engine = OpenAIEngine("m", url)
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    (choice,) = await hear(engine, request(question="Give n.", max_tokens=16, sampling=Sampling(schema=schema)))
    await engine.aclose()
    assert choice.text.lstrip().startswith("{")


async def test_cancelling_frees_the_server(url: str) -> None:
    engine = OpenAIEngine("m", url)
    for _ in range(8):  # twice as many as it has room for
        async with engine.generate(request(question="Tell a long story.", n=4, max_tokens=400)) as generation:
            await anext(generation)
    (choice,) = await hear(engine, request(max_tokens=3))
    await engine.aclose()
    assert choice.finish in (Finish.STOP, Finish.LENGTH)
