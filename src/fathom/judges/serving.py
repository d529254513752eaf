"""Posting JSON to the servers that judges ask, with the manners of `fathom.language.engines.upstream`, on the run's
account: a call is charged under the role ``judge``, with the prompt tokens that the server tells; its price is unknown.
"""

from __future__ import annotations

import asyncio
import math
import time
from functools import lru_cache
from typing import Any

import aiohttp
import msgspec

from fathom.budget import Meter
from fathom.errors import UpstreamError
from fathom.language.engines.openai_wire import refusal
from fathom.language.engines.upstream import Failure, Upstream, read_within

__all__ = ["JudgeServer"]

_REPLY_BYTES = 64 << 20


@lru_cache(maxsize=64)
def _upstream(server: str, api_key: str | None) -> Upstream:
    """One for each server, so that later runs find its connections and what was learned of its load."""
    return Upstream(server, api_key=api_key)


class JudgeServer:
    """A server, as one run asks it. Raises UsageError for a base URL that makes no sense."""

    def __init__(self, server: str, meter: Meter, api_key: str | None = None) -> None:
        self.upstream = _upstream(server, api_key)
        self.meter = meter

    @property
    def name(self) -> str:
        return self.upstream.name

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """The decoded reply. Raises UpstreamError where the budget leaves no call, or the server does not answer."""
        meter = self.meter
        if (ended := meter.exhausted) is not None:
            raise UpstreamError(f"the budget ended ({ended}) before {self.name} was asked")
        with meter.lease(1) as lease:  # a token stands for the call, which generates none
            if lease.tokens == 0:
                raise UpstreamError(f"the budget ({lease.refused}) leaves no call to {self.name}")
            lease.charge("judge", calls=1)
            reply = await self._retried(path, msgspec.json.encode(body))
            usage = reply.get("usage") if isinstance(reply, dict) else None
            read = usage.get("prompt_tokens") if isinstance(usage, dict) else 0
            lease.charge("judge", prompt_tokens=read if isinstance(read, int) and read > 0 else 0)
        return reply

    async def _retried(self, path: str, body: bytes) -> Any:
        left = self.meter.seconds_left
        deadline = None if left == math.inf else time.monotonic() + left
        tried = 0
        while True:
            found = await self._attempt(path, body)
            if not isinstance(found, Failure):
                return found
            tried += 1
            wait = self.upstream.retry.wait(found, tried, deadline)
            if wait is None:
                raise found.error
            await asyncio.sleep(wait)

    async def _attempt(self, path: str, body: bytes) -> Any:
        upstream = self.upstream
        lane = await upstream.lane()
        async with lane.limit:
            since = time.monotonic()
            failure: Failure
            try:
                async with lane.session.post(upstream.url(path), data=body, allow_redirects=False) as response:
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
