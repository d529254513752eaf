"""The way in: the socket, and connections that know when the bytes of a request came, and when to break off.

A busy event loop reads late, and a deadline counts from when the client's bytes came, not from when they were read.
The kernel knows when that was (``TCP_INFO``, Linux); elsewhere the time of reading must do.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from asyncio import AbstractEventLoop, BaseEventLoop
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from fathom.errors import UsageError
from fathom.serve.config import Config
from fathom.serve.refusal import Refused
from fathom.serve.replies import refusal_reply

__all__ = ["BACKLOG", "Connection", "Listener", "bound", "cut_off", "doors", "event_loop"]

BACKLOG = 1024  # connections that the kernel holds until they are accepted
DOORS = 16
GRACE = 2.0  # seconds beyond its deadline in which a client may still read its answer
LAST_RECEIVED = slice(52, 56)  # tcpi_last_data_recv of Linux's struct tcp_info: milliseconds, in the host's byte order


def event_loop() -> AbstractEventLoop:
    """uvloop's where it is installed: a quarter less CPU a request."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def bound(config: Config, *, shared: bool) -> socket.socket:
    """A socket at the configured address, which does not listen yet; ``shared`` lets other processes bind it too.

    Raises UsageError where the address cannot be had.
    """
    found = socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET, socket.SOCK_STREAM)
    if sys.platform != "win32":  # where it would let another process take over the port
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        found.bind((config.host, config.port))
    except (OSError, ValueError) as error:  # ValueError: no name of a host at all
        found.close()
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot listen at {config.host}:{config.port}: {why}") from None
    found.setblocking(False)
    return found


def doors(held: socket.socket) -> Iterator[socket.socket]:
    """The socket, as often as the running loop has to be given it to let a burst of connections in at once.

    uvloop accepts one connection a turn for each socket that it listens on: the last of 64 that come together would
    wait for 64 turns. asyncio's own loop accepts all that are there.
    """
    yield held
    if not isinstance(asyncio.get_running_loop(), BaseEventLoop):
        for _ in range(DOORS - 1):
            yield held.dup()


class Connection(RequestHandler):
    """aiohttp's protocol, which notes when what it last read had come."""

    __slots__ = ("heard",)

    def data_received(self, data: bytes) -> None:
        if data:  # aiohttp calls it with none to go on with what it has
            self.heard = time.monotonic() - _unread(self.transport)
        super().data_received(data)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP is told so in the form of all other errors."""
        if status >= 500 or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        reply = refusal_reply(Refused(status, message or "this is no HTTP request", code="invalid_http"))
        reply.force_close()
        return reply


class Listener(web.Server):
    """aiohttp's server, with connections that note the time."""

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


@contextmanager
def cut_off(request: web.BaseRequest, deadline: float, last: float) -> Iterator[None]:
    """Break the connection off some time after the deadline where the client does not read what it is sent, and after
    ``last`` in any case. That cancels what is done inside, which would wait for ever with all that it holds.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        transport, left = request.transport, last + GRACE - time.monotonic()
        if transport is not None and (left <= 0 or transport.get_write_buffer_size()):
            transport.abort()
        elif transport is not None:
            timer = loop.call_later(left, look)

    timer = loop.call_later(min(deadline, last) + GRACE - time.monotonic(), look)
    try:
        yield
    finally:
        timer.cancel()


def _unread(transport: asyncio.BaseTransport | None) -> float:
    """Seconds for which a connection's last bytes have lain unread."""
    if sys.platform != "linux" or transport is None:
        return 0.0
    told = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LAST_RECEIVED.stop)
    return int.from_bytes(told[LAST_RECEIVED], sys.byteorder) / 1e3
