"""The way in: the socket, and connections that know when the bytes of a request came.

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

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from fathom.errors import UsageError
from fathom.serve.config import Config

__all__ = ["BACKLOG", "Connection", "Listener", "bound", "doors", "event_loop"]

BACKLOG = 1024  # connections that the kernel holds until they are accepted
DOORS = 16
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
    except OSError as error:
        found.close()
        raise UsageError(f"cannot listen at {config.host}:{config.port}: {error.strerror or error}") from None
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


class Listener(web.Server):
    """aiohttp's server, with connections that note the time."""

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


def _unread(transport: asyncio.BaseTransport | None) -> float:
    """Seconds for which a connection's last bytes have lain unread."""
    if sys.platform != "linux" or transport is None:
        return 0.0
    told = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LAST_RECEIVED.stop)
    return int.from_bytes(told[LAST_RECEIVED], sys.byteorder) / 1e3
