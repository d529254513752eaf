"""What all requests share: the configuration, the opened models, the keys, and the gate."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

import msgspec
from aiohttp import web

from fathom.budget import Meter
from fathom.errors import NoAnswer, UpstreamError
from fathom.planning.auto import Auto
from fathom.planning.plan import DEFAULT_WIDTH
from fathom.run import Run
from fathom.serve.asking import Ask
from fathom.serve.config import Config
from fathom.serve.gate import Gate
from fathom.serve.keys import Keys
from fathom.serve.limits import Client
from fathom.serve.listening import cut_off
from fathom.serve.metrics import Metrics
from fathom.serve.models import Served
from fathom.serve.refusal import Refused
from fathom.serve.replies import ARRIVED
from fathom.serve.shared import Allowances
from fathom.serve.spans import request_span, search_span

__all__ = ["Gateway"]

T = TypeVar("T")

_DECODERS: dict[type, msgspec.json.Decoder[object]] = {}


class Gateway:
    """What all requests share."""

    def __init__(self, config: Config, models: Mapping[str, Served], allowances: Allowances | None = None) -> None:
        self.config = config
        self.models = models
        self.keys = Keys(config.keys, allowances)
        self.gate = Gate(config.limits.concurrent, config.limits.queue, config.limits.seconds)
        self.runs: set[Run] = set()  # the searches that are under way
        self.plain = 0  # choices of plain completions that are
        self.metrics = Metrics(self._look)
        for name, served in models.items():
            for behind in served.own:
                if behind.hedging is not None:
                    behind.hedging.told = partial(self.metrics.hedged, name)

    async def read(self, request: web.BaseRequest, kind: type[T]) -> T:
        """The body of a request, checked. Raises Refused."""
        if request.content_type != "application/json":
            raise Refused(415, "send JSON, with Content-Type: application/json", code="unsupported_media_type")
        try:
            raw = await request.read()
        except web.HTTPRequestEntityTooLarge:
            most = self.config.limits.body_bytes
            raise Refused(413, f"the body is larger than {most} bytes", code="body_too_large") from None
        try:
            return decoder(kind).decode(raw)
        except msgspec.ValidationError as error:
            raise _invalid(error) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(400, f"the body is not JSON: {error}", code="invalid_json") from None

    def meter(self, request: web.BaseRequest, ask: Ask) -> Meter:
        """The account of a request. Its clock started when the request's bytes came."""
        meter = Meter(ask.budget)
        waited = meter.started - request[ARRIVED]
        meter.started -= waited
        meter.deadline -= waited
        return meter

    @asynccontextmanager
    async def visit(
        self, request: web.BaseRequest, client: Client, ask: Ask, meter: Meter
    ) -> AsyncGenerator[None, None]:
        """One request from its admission to its account, which is taken in whatever way it ends."""
        last = meter.started + self.config.limits.seconds
        ask.served.check()
        client.knock()
        with request_span(ask, meter):
            async with self.gate.enter(client, meter):
                self._narrow(ask, meter)
                plain = ask.n if ask.strategy is None else 0
                self.plain += plain
                try:
                    with cut_off(request, meter.deadline, last), search_span(ask, meter):
                        yield
                except UpstreamError as error:
                    if error.status is None and not meter.seconds_left:
                        raise NoAnswer(f"nothing came by the deadline: {error}") from None
                    raise
                finally:
                    self.plain -= plain
                    self._account(client, ask, meter)

    def _narrow(self, ask: Ask, meter: Meter) -> None:
        """While others wait, what plans its own width plans with the share of it that those who want to run can have.

        A width that was asked for is kept.
        """
        gate, width = self.gate, meter.budget.width
        if gate.waiting and width is None and isinstance(ask.strategy, Auto):
            width = max(1, DEFAULT_WIDTH * gate.running // (gate.running + gate.waiting))
            meter.budget = replace(meter.budget, width=width)

    def _look(self, metrics: Metrics) -> None:
        """How things stand now."""
        metrics.running.set(self.gate.running)
        metrics.waiting.set(self.gate.waiting)
        metrics.growing.set(self.plain + sum(run.growing for run in self.runs))
        for name, served in self.models.items():
            metrics.breaker.labels(name).set(served.state != "ready")

    def _account(self, client: Client, ask: Ask, meter: Meter) -> None:
        """A request has ended, in whatever way."""
        spent, seconds = meter.spent, meter.budget.seconds
        self.metrics.account(ask.served.id, spent, None if seconds is None else float(seconds))
        client.settle(spent.tokens)


def decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    found = _DECODERS.get(kind)
    if found is None:
        found = _DECODERS[kind] = msgspec.json.Decoder(kind)
    return found  # type: ignore[return-value]


def _invalid(error: msgspec.ValidationError) -> Refused:
    """A refusal that names the parameter."""
    message, _, path = str(error).partition(" - at `")
    param = path.rstrip("`").removeprefix("$").removeprefix(".")
    if message.startswith("Object contains unknown field"):
        field = message.split("`")[1]
        param = f"{param}.{field}" if param else field
        return Refused(400, f"unknown parameter: {param}", code="unknown_parameter", param=param)
    if message.startswith("Object missing required field"):
        field = message.split("`")[1]
        param = f"{param}.{field}" if param else field
        return Refused(400, f"missing parameter: {param}", code="missing_parameter", param=param)
    return Refused(400, f"{param or 'the body'}: {message}", code="invalid_value", param=param or None)
