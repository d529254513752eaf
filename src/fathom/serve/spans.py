"""The gateway's own spans: one for each request, from its first byte, and below it one for the search that answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from fathom import tracing
from fathom.budget import Meter
from fathom.serve.asking import Ask

__all__ = ["request_span", "search_span"]


_NONE = nullcontext()


def request_span(ask: Ask, meter: Meter) -> AbstractContextManager[None]:
    """Around a request, its waiting included."""
    return _request_span(ask, meter) if tracing.active() else _NONE


def search_span(ask: Ask, meter: Meter) -> AbstractContextManager[None]:
    """Around a search."""
    return _search_span(ask, meter) if ask.strategy is not None and tracing.active() else _NONE


@contextmanager
def _request_span(ask: Ask, meter: Meter) -> Iterator[None]:
    with tracing.span(
        f"chat {ask.served.id}",
        "server",
        meter.elapsed,
        gen_ai__operation__name="chat",
        gen_ai__provider__name="fathom",
        gen_ai__request__model=ask.served.id,
        gen_ai__request__choice__count=ask.n if ask.n > 1 else None,
        fathom__strategy=ask.label,
    ) as span:
        try:
            yield
        finally:
            assert span is not None, "there is a tracer"
            spent = meter.spent
            span.set_attribute("gen_ai.usage.input_tokens", spent.prompt_tokens + spent.reused_tokens)
            span.set_attribute("gen_ai.usage.output_tokens", spent.tokens)


@contextmanager
def _search_span(ask: Ask, meter: Meter) -> Iterator[None]:
    limits: dict[str, Any] = {f"fathom__limit__{name}": value for name, value in meter.limits.items()}
    with tracing.span(f"search {ask.label}", fathom__strategy=ask.label, **limits) as span:
        try:
            yield
        finally:
            assert span is not None, "there is a tracer"
            spent = meter.spent
            for name in ("width", "depth", "calls", "tokens", "cost"):
                if (value := getattr(spent, name)) is not None:
                    span.set_attribute(f"fathom.spent.{name}", value)
