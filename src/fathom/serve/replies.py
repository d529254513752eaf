"""How replies leave: JSON in one, or server-sent events as they come."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from fathom.errors import FathomError
from fathom.serve.refusal import Refused, refused

__all__ = ["ARRIVED", "ID", "Events", "json_reply", "new_id", "now", "refusal_reply"]

LOG = logging.getLogger("fathom.serve")

ID = web.RequestKey("id", str)
"""Under which a request has its own name: in the header ``x-request-id``, and in the log."""

ARRIVED = web.RequestKey("arrived", float)
"""When its first bytes were read, by the clock of ``time.monotonic``."""

_encode = msgspec.json.Encoder().encode

_EVENTS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def json_reply(value: Any, headers: Mapping[str, str] | None = None, status: int = 200) -> web.Response:
    """A value as JSON."""
    return web.Response(body=_encode(value), status=status, headers=headers, content_type="application/json")


def refusal_reply(refused: Refused) -> web.Response:
    """An error in OpenAI's form."""
    return json_reply(refused.body, refused.headers, refused.status)


def new_id(prefix: str) -> str:
    """A name for a reply that nobody else has."""
    return f"{prefix}-{secrets.token_hex(12)}"


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())


class Events:
    """A streamed reply. It begins with its first event: what goes wrong before that has a status of its own."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._response = web.StreamResponse(headers={**_EVENTS, "x-request-id": request[ID]})
        self.began: float | None = None  # when, by the clock of ``time.monotonic``

    async def send(self, event: Any, name: str = "") -> None:
        """One event. Raises ConnectionResetError where the client has left."""
        head = b"event: %b\ndata: " % name.encode() if name else b"data: "
        await self._write(head + _encode(event) + b"\n\n")

    async def fail(self, error: Exception, masks: Mapping[str, str], name: str = "") -> web.StreamResponse:
        """Tell an error: as an event where the reply has begun, raised as a Refused where it has not.

        Where events have names, ``name`` is that of an error's.
        """
        if isinstance(error, ConnectionResetError):
            raise error  # the client has left
        if not isinstance(error, FathomError):
            LOG.exception("%s failed", self._request[ID])
        told = refused(error, masks)
        if self.began is None:
            raise told from error
        await self.send({**msgspec.structs.asdict(told.body.error), "type": name} if name else told.body, name)
        return await self.end(b"")

    async def end(self, last: bytes = b"data: [DONE]\n\n") -> web.StreamResponse:
        """The end of the reply."""
        if last:
            await self._write(last)
        await self._response.write_eof()
        return self._response

    async def _write(self, data: bytes) -> None:
        if self.began is None:
            self.began = time.monotonic()
            await self._response.prepare(self._request)
        await self._response.write(data)
