"""A reward model behind a server: one request per candidate, with the manners of `fathom.language.engines.upstream`."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import aiohttp
import msgspec

from fathom.budget import Meter
from fathom.errors import UpstreamError
from fathom.judges.prm_formats import ServerFormat
from fathom.language.engines.openai_wire import refusal
from fathom.language.engines.upstream import Failure, Upstream, read_within

__all__ = ["ServerScorer", "StepScorer"]

_REPLY_BYTES = 16 << 20


class StepScorer(Protocol):
    """A process reward model."""

    async def scores(self, problem: str, steps: Sequence[str]) -> list[float]:
        """The score of each step, in [0, 1]; a scorer that only the last step matters to may give that alone."""


@lru_cache(maxsize=64)
def _upstream(server: str, api_key: str | None) -> Upstream:
    """One for each server, so that later runs find its connections and what was learned of its load."""
    return Upstream(server, api_key=api_key)


class ServerScorer:
    """Asks a server. A call is charged to the meter under the role ``judge``; what it costs in dollars is unknown."""

    def __init__(self, server: str, form: ServerFormat, meter: Meter, api_key: str | None = None) -> None:
        self.form = form
        self.meter = meter
        self.upstream = _upstream(server, api_key)

    async def scores(self, problem: str, steps: Sequence[str]) -> list[float]:
        meter = self.meter
        if (ended := meter.exhausted) is not None:
            raise UpstreamError(f"the budget ended ({ended}) before the reward model was asked")
        with meter.lease(1) as lease:  # a token stands for the call: a reward model generates none
            if lease.tokens == 0:
                raise UpstreamError(f"the budget ({lease.refused}) leaves no call for the reward model")
            lease.charge("judge", calls=1)
            reply = await self._post(self.form.body(problem, steps))
            usage = reply.get("usage") if isinstance(reply, dict) else None
            read = usage.get("prompt_tokens") if isinstance(usage, dict) else 0
            lease.charge("judge", prompt_tokens=read if isinstance(read, int) and read > 0 else 0)
        try:
            scores = self.form.read(reply)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise UpstreamError(f"{self.upstream.name} sent no scores ({type(error).__name__}: {error})") from None
        if len(scores) != self.form.expected(steps):
            raise UpstreamError(f"{self.upstream.name} sent {len(scores)} scores for {self.form.expected(steps)} steps")
        return scores

    async def _post(self, body: dict[str, Any]) -> Any:
        """The decoded reply. Raises UpstreamError where the server did not answer within tries and deadline."""
        left = self.meter.seconds_left
        deadline = None if left == math.inf else time.monotonic() + left
        tried = 0
        while True:
            found = await self._attempt(msgspec.json.encode(body))
            if not isinstance(found, Failure):
                return found
            tried += 1
            wait = self.upstream.retry.wait(found, tried, deadline)
            if wait is None:
                raise found.error
            await asyncio.sleep(wait)

    async def _attempt(self, body: bytes) -> Any:
        upstream = self.upstream
        lane = await upstream.lane()
        async with lane.limit:
            since = time.monotonic()
            failure: Failure
            try:
                url = upstream.url(self.form.path)
                async with lane.session.post(url, data=body, allow_redirects=False) as response:
                    if response.status < 300:
                        raw = await read_within(response, _REPLY_BYTES)
                        lane.limit.succeeded()
                        return msgspec.json.decode(raw or b"")
                    failure = await upstream.refused(response, lambda body: refusal(body).message)
            except msgspec.DecodeError:
                failure = upstream.failure("a reply that is no JSON")
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                failure = upstream.broken(error)
            if failure.overload:
                lane.limit.overloaded(since)
            return failure
