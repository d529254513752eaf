"""Drafts in the embedded engine, out of the text and by a smaller model: verified, counted, and never in the way."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from told import GREEDY, STORY, ask, assert_alike, assert_greedy, collect, endless

import fathom.models
from fathom.errors import LimitError, ModelFileError, UsageError
from fathom.language.download import obtain
from fathom.language.engines.base import Finish, Request, Sampling, Span
from fathom.language.engines.llama import LlamaEngine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def path() -> Path:
    return obtain("smollm2-135m")


@pytest.fixture
def fresh(path: Path) -> Iterator[LlamaEngine]:
    """An engine that nobody used: what is greedy here is greedy to the last bit."""
    engine = LlamaEngine(path, context=1024, max_width=8)
    yield engine
    asyncio.run(engine.aclose())


@pytest.mark.parametrize("draft", ["lookup", "siblings"])
async def test_drafts_are_verified_and_leave_nothing_behind(path: Path, fresh: LlamaEngine, draft: str) -> None:
    quick = LlamaEngine(path, context=1024, draft=draft, draft_length=6)
    words = ["red", "green", "blue", "teal", "house", "tree", "river", "stone", "bird", "cloud"]
    line = " ".join(words)
    asked = ask(f"Repeat these words: {line}", Span(f"{line} {line} {line} {' '.join(words[:4])}"))
    for sampling in (Sampling(temperature=0.0, logprobs=True), Sampling(temperature=0.4, logprobs=True)):
        (told,) = await collect(quick, Request(asked, max_tokens=24, seed=11, sampling=sampling))
        logprobs = [value for piece in told.pieces for value in piece.logprobs]
        assert len(logprobs) == len(told.ids) <= told.tokens <= 24
        assert_alike(await fresh.score(asked, told.span), logprobs)
        accepted = sum(piece.accepted_draft_tokens for piece in told.pieces)
        assert accepted < told.tokens + 6
        assert accepted > 0 or sampling.temperature > 0  # a line that is said over and over is foreseen
        cut = random.randrange(1, max(2, len(told.ids)))
        begun = ask(asked.messages[0].content, *asked.prefix, Span("", told.ids[:cut]))
        (again,) = await collect(quick, Request(begun, max_tokens=1))
        assert again.read == 1  # what the cache holds is the text, and no draft
    pair = await collect(quick, Request(asked, n=2, max_tokens=4, sampling=GREEDY))
    assert sum(piece.rejected_draft_tokens for told in pair for piece in told.pieces) == 0  # two advance without
    await quick.aclose()


def test_what_drafts_cannot_be_is_refused(path: Path) -> None:
    with pytest.raises(UsageError, match="'magic'"):
        LlamaEngine(path, draft="magic")
    with pytest.raises(LimitError):
        LlamaEngine(path, draft="lookup", draft_length=0)


async def test_a_model_that_drafts_for_itself_is_always_right(path: Path) -> None:
    plain = LlamaEngine(path, context=512)
    quick = LlamaEngine(path, context=512, draft=str(path), draft_length=4)
    (slow,) = await collect(plain, Request(ask(STORY), max_tokens=24, sampling=GREEDY))
    (fast,) = await collect(quick, Request(ask(STORY), max_tokens=24, sampling=GREEDY))
    assert fast.ids[:3] == slow.ids[:3]
    await assert_greedy(plain, ask(STORY), fast.ids)
    drawn = Sampling(temperature=1.0, top_k=50, logprobs=True)
    (told,) = await collect(quick, Request(ask(STORY), max_tokens=24, sampling=drawn, seed=7))
    for each in (fast, told):
        accepted = sum(piece.accepted_draft_tokens for piece in each.pieces)
        rejected = sum(piece.rejected_draft_tokens for piece in each.pieces)
        assert 0.5 * each.tokens < accepted < each.tokens
        assert rejected <= 0.2 * accepted + 4  # nearly tied tokens, and what was beyond the end
    logprobs = [value for piece in told.pieces for value in piece.logprobs]
    assert_alike(await plain.score(ask(STORY), told.span), logprobs)
    begun = ask(STORY, Span("", told.ids[:7]))
    (again,) = await collect(quick, Request(begun, max_tokens=1))
    assert again.read == 1  # what the cache holds is the text, and no draft
    for engine in (plain, quick):
        await engine.aclose()


@pytest.fixture
def weaker(path: Path, tmp_path: Path) -> Path:
    """The same model, some of whose layers do nothing."""
    whole, weaker = path.read_bytes(), tmp_path / "weaker.gguf"
    tenth = len(whole) // 10
    weaker.write_bytes(whole[: 8 * tenth] + bytes(tenth) + whole[9 * tenth :])
    return weaker


async def test_a_weaker_model_changes_no_greedy_token(path: Path, weaker: Path) -> None:
    engine = LlamaEngine(path, context=512, draft=weaker, draft_length=2)
    (fast,) = await collect(engine, Request(ask(STORY), max_tokens=24, sampling=GREEDY))
    await engine.aclose()
    plain = LlamaEngine(path, context=512)
    await assert_greedy(plain, ask(STORY), fast.ids)
    await plain.aclose()
    assert sum(piece.accepted_draft_tokens for piece in fast.pieces) > 0
    assert sum(piece.rejected_draft_tokens for piece in fast.pieces) > 0


async def test_penalties_and_schemas_hold_with_a_draft_model(path: Path) -> None:
    quick = LlamaEngine(path, context=512, draft=str(path), draft_length=3)
    words = random.sample(["red", "green", "blue", "teal", "pink"], 2)
    schema = {"type": "array", "items": {"enum": words}, "minItems": 2, "maxItems": 2}
    strict = Sampling(temperature=1.0, schema=schema, presence_penalty=0.5)
    (told,) = await collect(quick, Request(ask("Name two colours."), max_tokens=48, sampling=strict))
    assert set(json.loads(told.text)) <= set(words)
    assert told.finish is Finish.STOP  # there are not so many characters in the longest text of this schema
    await quick.aclose()


async def test_a_draft_model_is_interrupted_and_ends_with_the_other(path: Path) -> None:
    quick = LlamaEngine(path, context=512, draft=str(path), draft_length=15)
    async with quick.generate(Request(ask("hello " * 150), max_tokens=99)) as generation:
        await anext(aiter(generation))  # the smaller model reads the prompt from now on
    (told,) = await collect(quick, Request(ask(STORY), max_tokens=4, sampling=endless(quick)))
    assert told.tokens == 4
    async with quick.generate(Request(ask(STORY), max_tokens=400, sampling=endless(quick))) as generation:
        await anext(aiter(generation))
        await quick.aclose()
        assert {piece.finish async for piece in generation if piece.finish} == {Finish.FAILED}


async def test_a_model_with_other_tokens_cannot_draft(path: Path) -> None:
    with pytest.raises(UsageError, match="tokens are not the same"):
        LlamaEngine(path, draft=str(obtain("qwen2.5-coder-0.5b")))
    with pytest.raises(UsageError, match="cannot draft for"):
        await fathom.models.open_model(f"gguf:{path}", draft="qwen2.5-coder-0.5b")
    with pytest.raises(ModelFileError, match="GGUF"):
        LlamaEngine(path, draft=__file__)
