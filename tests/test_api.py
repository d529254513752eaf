"""What the front door opens it closes again, however a run ends, and also where it never begins."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from upstreams import Upstream

import fathom
from fathom.errors import CapabilityError, ModelFileError
from fathom.language.engines.scripted import ScriptedEngine
from fathom.language.model import LanguageModel


@pytest.fixture
def server() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


async def closed(server: Upstream) -> bool:
    """Whether nobody is connected any more; that somebody was is sure."""
    assert server.paths
    for _ in range(3000):
        if server.connections == 0:
            return True
        await asyncio.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("ensemble(models=['{uri}', 'gguf:nowhere.gguf'])", ModelFileError),
        ("cascade(models=['{uri}', 'gguf:nowhere.gguf'])", ModelFileError),
        ("ensemble(models=['{uri}']) | beam(width=4)", CapabilityError),
    ],
)
async def test_further_models_are_closed_where_the_run_cannot_begin(
    server: Upstream, spec: str, error: type[Exception]
) -> None:
    model = LanguageModel(ScriptedEngine({"1": 1.0}), form="short")
    with pytest.raises(error) as caught:  # kept, so that nothing is closed by being forgotten
        await fathom.asolve(model, "?", strategy=spec.format(uri=f"openai:m@{server.url}"))
    assert await closed(server), caught
    assert (await fathom.asolve(model, "?")).answer == "1", "the caller's own model stays open"


async def test_further_models_are_closed_at_the_end(server: Upstream) -> None:
    model = LanguageModel(ScriptedEngine({"1": 1.0}), form="short")
    spec = f"ensemble(models=['openai:m@{server.url}'], width=2)"
    result = await fathom.asolve(model, "?", strategy=spec)
    assert result.answer
    assert await closed(server)


async def test_a_model_that_is_only_named_is_closed_after_its_run(server: Upstream) -> None:
    uri = f"openai:m@{server.url}"
    assert (await fathom.asolve(uri, "?")).answer
    assert await closed(server)
    updates = [update async for update in fathom.stream(uri, "?")]
    assert updates[-1].final is not None
    assert await closed(server)
    with pytest.raises(CapabilityError) as caught:
        await fathom.asolve(uri, "?", strategy="beam")
    assert await closed(server), caught
