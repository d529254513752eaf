"""Spans, as an exporter of OpenTelemetry's own SDK gets them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from house import Open
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from upstreams import PROMPT_TOKENS, Upstream
from waiting import until

from fathom import tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.install(provider.get_tracer("test"))
    yield exporter
    tracing.install(None)


async def ended(exported: InMemorySpanExporter) -> tuple[ReadableSpan, ...]:
    """All spans, once that of the request is there: a client can have its reply before the gateway is through."""
    await until(lambda: any(span.kind is SpanKind.SERVER for span in exported.get_finished_spans()))
    return exported.get_finished_spans()


def below(parent: ReadableSpan, spans: tuple[ReadableSpan, ...]) -> list[ReadableSpan]:
    assert parent.context is not None
    return [s for s in spans if s.parent is not None and s.parent.span_id == parent.context.span_id]


async def test_a_request_its_search_its_samples_and_its_judgements(
    open_house: Open, exported: InMemorySpanExporter
) -> None:
    house = await open_house()
    await house.ask(
        fathom={"strategy": "best-of-n(judge=arithmetic)", "width": 3},
        extra_headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"},
    )
    spans = await ended(exported)
    (request,) = [span for span in spans if span.kind is SpanKind.SERVER]
    assert request.name == "chat m"
    assert f"{request.context.trace_id:032x}" == TRACE
    assert request.attributes is not None
    assert request.attributes["gen_ai.operation.name"] == "chat"
    assert request.attributes["gen_ai.request.model"] == "m"
    (search,) = below(request, spans)
    assert search.name.startswith("search best-of-n")
    assert search.attributes is not None
    assert search.attributes["fathom.spent.width"] == 3
    within = below(search, spans)
    samples = [span for span in within if span.kind is SpanKind.CLIENT]
    judgements = [span for span in within if span.name == "judge arithmetic"]
    assert len(samples) == 3
    assert judgements
    generated = 0
    for sample in samples:
        assert sample.attributes is not None
        assert sample.attributes["gen_ai.response.finish_reasons"] == ("stop",)
        generated += int(sample.attributes["gen_ai.usage.output_tokens"])
    assert generated == search.attributes["fathom.spent.tokens"]
    assert {span.attributes["gen_ai.evaluation.name"] for span in judgements if span.attributes} == {"arithmetic"}
    assert all("17 times 23" not in repr(dict(span.attributes or {})) for span in spans)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_plain_completion_is_a_request_and_a_sample(
    open_house: Open, exported: InMemorySpanExporter, stream: bool
) -> None:
    house = await open_house()
    reply = await house.ask(stream=stream)
    if stream:
        async for _ in reply:
            pass
    spans = await ended(exported)
    (request,) = [span for span in spans if span.kind is SpanKind.SERVER]
    (sample,) = below(request, spans)
    assert sample.attributes is not None
    assert sample.attributes["gen_ai.usage.input_tokens"] == PROMPT_TOKENS
    assert sample.attributes["gen_ai.provider.name"] == "openai"


@pytest.mark.parametrize("fathom", [None, {"strategy": "vote(stop=never)", "width": 3}])
@pytest.mark.parametrize("stream", [True, False])
async def test_the_spans_of_a_client_that_leaves_end_too(
    open_house: Open, exported: InMemorySpanExporter, upstream: Upstream, fathom: dict[str, Any] | None, stream: bool
) -> None:
    upstream.delay = 30.0
    house = await open_house()
    asked = asyncio.create_task(house.ask(stream=stream, fathom=fathom))
    await until(lambda: upstream.running)
    asked.cancel()
    names = ["chat m", "search vote(stop=never)"] if fathom else ["chat m"]
    while len(own := [s for s in exported.get_finished_spans() if s.kind is not SpanKind.CLIENT]) < len(names):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert sorted(span.name for span in own) == names
    for span in own:
        assert span.attributes is not None
        assert span.attributes["fathom.cancelled"] is True
        assert "error.type" not in span.attributes


async def test_what_fails_says_so(open_house: Open, exported: InMemorySpanExporter, upstream: Upstream) -> None:
    upstream.fault = lambda number: "400"
    house = await open_house()
    with pytest.raises(Exception, match="fault 400"):
        await house.ask()
    for span in await ended(exported):
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes is not None
        assert span.attributes["error.type"] == "UpstreamError"


async def test_without_a_tracer_there_is_nothing_in_the_way(open_house: Open) -> None:
    house = await open_house()
    assert not tracing.active()
    with tracing.span("anything") as opened, tracing.joined({"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}):
        assert opened is None
    assert (await house.ask(fathom={"strategy": "vote", "width": 2})).choices
