"""Spans for OpenTelemetry, named after its conventions for generative AI; nothing at all until a tracer is installed.

What runs opens a span by `span`; whoever has a tracer hands it to `install`. Attributes are those of
https://opentelemetry.io/docs/specs/semconv/gen-ai/ (``gen_ai.…``), and ``fathom.…`` for what these have no word for.
No prompt and no answer is ever put into a span.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from fathom.errors import MissingDependency

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanKind, Tracer

__all__ = ["active", "begin", "end", "export", "install", "joined", "judgement", "span"]

_tracer: Tracer | None = None


def install(tracer: Tracer | None) -> None:
    """Let spans be made by this tracer; None ends it."""
    global _tracer
    _tracer = tracer


def active() -> bool:
    """Whether there is a tracer."""
    return _tracer is not None


def export() -> None:
    """Send spans by OTLP to where the ``OTEL_EXPORTER_OTLP_…`` variables say. A provider that there is already is kept.

    Raises MissingDependency.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingDependency(error.name or "opentelemetry-sdk", "otel", "sending spans") from None
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        provider = TracerProvider(resource=Resource.create({"service.name": "fathom"}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    install(trace.get_tracer("fathom"))


@contextmanager
def joined(headers: Mapping[str, str]) -> Iterator[None]:
    """Spans inside belong to the trace that a request's ``traceparent`` names."""
    if _tracer is None:
        yield
        return
    from opentelemetry import context, propagate

    token = context.attach(propagate.extract(headers))
    try:
        yield
    finally:
        context.detach(token)


@contextmanager
def span(name: str, kind: str = "internal", seconds: float = 0.0, **attributes: Any) -> Iterator[Span | None]:
    """A span around what is done inside, which began so many ``seconds`` ago; None without a tracer."""
    if _tracer is None:
        yield None
        return
    from opentelemetry.trace import use_span

    opened = begin(name, kind, seconds, **attributes)
    with use_span(opened, record_exception=False, set_status_on_exception=False):
        try:
            yield opened
        except Exception as error:
            end(opened, error=error)
            raise
        except BaseException:  # whoever waited for it has left
            end(opened, fathom__cancelled=True)
            raise
        else:
            end(opened)


def judgement(name: str, candidates: int) -> AbstractContextManager[Span | None]:
    """A span around what a judge does with so many candidates."""
    return span(f"judge {name}", gen_ai__evaluation__name=name, fathom__candidates=candidates)


def begin(name: str, kind: str = "internal", seconds: float = 0.0, **attributes: Any) -> Span:
    """A span below the present one, which does not become the present one itself. There must be a tracer."""
    assert _tracer is not None, "spans are begun only where there is a tracer"
    start = time.time_ns() - int(seconds * 1e9)
    return _tracer.start_span(name, kind=_kind(kind), attributes=_named(attributes), start_time=start)


def end(opened: Span, error: Exception | None = None, **attributes: Any) -> None:
    """The end of a span, and what only then is known of it."""
    from opentelemetry.trace import Status, StatusCode

    opened.set_attributes(_named(attributes))
    if error is not None:
        opened.set_attribute("error.type", getattr(error, "code", None) or type(error).__name__)
        opened.set_status(Status(StatusCode.ERROR))
    opened.end()


def _kind(name: str) -> SpanKind:
    from opentelemetry.trace import SpanKind

    return SpanKind[name.upper()]


def _named(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes by their dotted names, those that nobody knows left out: ``gen_ai__usage__input_tokens=3``."""
    return {name.replace("__", "."): value for name, value in attributes.items() if value is not None}
