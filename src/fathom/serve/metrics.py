"""What the gateway counts, for Prometheus. Counting is a few additions a request; a scrape does the rest: how things
stand is looked at only then.

Several workers count into files that they share (prometheus_client's multiprocess mode, which an environment variable
switches on); whichever is scraped tells the sums. For the others' sake each looks how it stands every second.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from fathom.errors import MissingDependency
from fathom.records import Spent

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector
except ImportError:
    raise MissingDependency("prometheus-client", "serve", "the gateway") from None

__all__ = ["Metrics"]

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
EVERY = 1.0  # seconds between two looks of a worker
OVERSHOOT = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The counts. ``look`` sets those that tell how things stand now."""

    def __init__(self, look: Callable[[Metrics], None]) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "fathom_requests",
            "Requests by path and status (499: left).",
            ["path", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "fathom_request_seconds", "From arrival to the last byte.", ["model"], buckets=SECONDS, registry=registry
        )
        self.first = Histogram(
            "fathom_first_event_seconds",
            "From arrival to the first event of a stream.",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )
        self.overshoot = Histogram(
            "fathom_deadline_overshoot_seconds",
            "How long after its deadline a request ended.",
            buckets=OVERSHOOT,
            registry=registry,
        )
        self.tokens = Counter(
            "fathom_generated_tokens", "Tokens generated, by what for.", ["model", "role"], registry=registry
        )
        self.read = Counter("fathom_prompt_tokens", "Tokens read anew.", ["model"], registry=registry)
        self.running = Gauge(
            "fathom_requests_running", "Requests that run now.", registry=registry, multiprocess_mode="livesum"
        )
        self.growing = Gauge(
            "fathom_trajectories_running",
            "Trajectories that grow now, of all requests together.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.width = Histogram(
            "fathom_width", "Trajectories of a request.", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self.breaker = Gauge(
            "fathom_breaker_open",
            "1 while a model's upstream is given a rest.",
            ["model"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.waiting = Gauge(
            "fathom_requests_waiting",
            "Requests that wait for a turn.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.hedges = Counter(
            "fathom_hedges",
            "Requests to upstreams that were sent a second time, and those of them that won.",
            ["model", "what"],
            registry=registry,
        )
        self._look = look

    def hedged(self, model: str, what: str) -> None:
        """A request was ``sent`` to a model's upstream a second time, or that one ``won``."""
        self.hedges.labels(model, what).inc()

    def account(self, model: str, spent: Spent, seconds: float | None) -> None:
        """A request has ended, in whatever way, that was to take at most so many seconds."""
        self.seconds.labels(model).observe(spent.seconds)
        for role, tokens in spent.tokens_by_role.items():
            self.tokens.labels(model, role).inc(tokens)
        self.read.labels(model).inc(spent.prompt_tokens)
        self.width.observe(spent.width)
        if seconds is not None:
            self.overshoot.observe(max(0.0, spent.seconds - seconds))

    async def keep_looking(self) -> None:
        """For a worker whose counts another may be asked for."""
        while True:
            self._look(self)
            await asyncio.sleep(EVERY)

    def text(self) -> bytes:
        """All of it, in Prometheus's text form."""
        self._look(self)
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]
        return generate_latest(everybody)
