"""Good manners towards a server: connections kept, permits adapted to what it bears, retries that back off.

An `Upstream` is one HTTP server as one client sees it. It keeps a session and a set of permits per event loop, because
neither can cross loops, and turns everything that can go wrong on the way into a `Failure` that says whether another
try is worth it. Backoff is capped exponential with full jitter (Brooker, "Exponential Backoff And Jitter", 2015);
permits follow additive increase, multiplicative decrease (Chiu and Jain, 1989).
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import email.utils
import random
import ssl
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from fathom.errors import EngineError, UpstreamError, UsageError

__all__ = ["AdaptiveLimit", "Failure", "Lane", "RetryPolicy", "Upstream", "read_within"]

CONNECT_SECONDS = 10.0
ERROR_BYTES = 64 << 10  # of an error's body that are read
SAID = 300  # characters of what an upstream said that go into an error
RETRIED = frozenset({408, 409, 425, 429})  # and every 5xx
OVERLOADED = frozenset({408, 429, 503, 504})
HINTS = {
    401: "check the API key (api_key= or OPENAI_API_KEY)",
    403: "check what the API key may do",
    404: "check the model's name and the base URL, which usually ends in /v1",
}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most ``tries`` attempts. The k-th wait is drawn evenly from 0 to ``base`` · 2^k seconds, ``cap`` at most.

    A server's ``Retry-After`` is a lower bound of the wait; one of more than ``patience`` seconds ends the trying.
    """

    tries: int = 4
    base: float = 0.25
    cap: float = 8.0
    patience: float = 60.0

    def wait(self, failure: Failure, tried: int, deadline: float | None) -> float | None:
        """Seconds to wait before the next attempt, or None: no further one, as it could not begin by ``deadline``."""
        asked = failure.wait or 0.0
        if not failure.again or tried >= self.tries or asked > self.patience:
            return None
        wait = asked + random.uniform(0.0, min(self.cap, self.base * 2 ** (tried - 1)))
        return None if deadline is not None and time.monotonic() + wait >= deadline else wait


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt did not bring what it should.

    ``again`` says that another try is worth it, ``wait`` how many seconds the server asked for before it, ``overload``
    that the server has more to do than it bears. ``body`` is what a refusal said, undecoded.
    """

    error: UpstreamError
    again: bool = False
    wait: float | None = None
    overload: bool = False
    body: bytes = b""


class AdaptiveLimit:
    """Permits for concurrent requests: ``async with limit: …``. One event loop's own; first come, first served."""

    def __init__(self, most: int, start: int = 64) -> None:
        self.most = most
        self.limit = float(min(start, most))
        self.in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._halved_at = float("-inf")

    async def __aenter__(self) -> None:
        if not self._waiting and self.in_flight < int(self.limit):
            self.in_flight += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with contextlib.suppress(ValueError):
                    self._waiting.remove(turn)
            else:  # the permit had been handed over already
                self._release()
            raise

    async def __aexit__(self, *exc: object) -> None:
        self._release()

    def succeeded(self) -> None:
        """One more in flight per round of successes, where the permits are in demand at all."""
        if self.in_flight * 2 >= self.limit:
            self.limit = min(float(self.most), self.limit + 1.0 / self.limit)

    def overloaded(self, since: float) -> None:
        """Halve, once per round: a request begun (``since``, monotonic) before the last halving tells nothing new."""
        if since >= self._halved_at:
            self.limit = max(1.0, self.limit / 2)
            self._halved_at = time.monotonic()

    def _release(self) -> None:
        self.in_flight -= 1
        while self._waiting and self.in_flight < int(self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)


class Lane:
    """What one event loop holds of an upstream: a session, and permits.

    The session is closed when the loop shuts down, when the upstream is closed or forgotten, and when Python exits,
    whichever comes first. ``lanes`` are those of the upstream, in which this one has its place until then.
    """

    def __init__(self, session: aiohttp.ClientSession, limit: AdaptiveLimit, lanes: Lanes) -> None:
        self.loop = asyncio.get_running_loop()
        self.session = session
        self.limit = limit
        # A loop that shuts down closes the asynchronous generators that were begun in it: the one hook there is.
        self._guard = self._until_shutdown(lanes)

    async def open(self) -> None:
        await anext(self._guard)
        _OPEN.add(self)

    async def _until_shutdown(self, lanes: Lanes) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            _OPEN.discard(self)
            lanes.pop(self.loop, None)
            await self.session.close()

    async def aclose(self) -> None:
        await self._guard.aclose()

    def close_soon(self) -> None:
        """From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile, and the session with it
            self.loop.call_soon_threadsafe(self._begin_to_close)

    def _begin_to_close(self) -> None:
        task = self.loop.create_task(self.aclose())
        _CLOSING.add(task)
        task.add_done_callback(_CLOSING.discard)


Lanes = dict[asyncio.AbstractEventLoop, Lane]

_OPEN: weakref.WeakSet[Lane] = weakref.WeakSet()
_CLOSING: set[asyncio.Task[None]] = set()


def _forgotten(lanes: Lanes) -> None:
    """Nobody holds the upstream any longer."""
    for lane in list(lanes.values()):
        lane.close_soon()


@atexit.register
def _close_at_exit() -> None:
    for lane in list(_OPEN):
        if lane.loop.is_running():
            with contextlib.suppress(TimeoutError, RuntimeError):
                asyncio.run_coroutine_threadsafe(lane.aclose(), lane.loop).result(1.0)


class Upstream:
    """One server. Raises UsageError for a base URL or header that cannot be sent."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 120.0,
        max_concurrency: int = 256,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._base = _base(base_url)
        self._secrets = [secret for secret in (api_key, self._base.password) if secret]
        self._secrets += [value for name, value in (headers or {}).items() if len(value) >= 8 and _is_secret(name)]
        self._headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",  # a packed stream arrives in lumps, and a packed reply may be a bomb
            "User-Agent": "fathom",
        }
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._headers.update(headers or {})
        for name, value in self._headers.items():
            if not (name + value).isascii() or any(ord(letter) < 32 for letter in name + value):
                raise UsageError(f"the header {name!r} (or the API key) has characters that HTTP does not allow")
        if not timeout > 0:
            raise UsageError(f"timeout must be a positive number of seconds, not {timeout!r}")
        if max_concurrency < 1:
            raise UsageError(f"max_concurrency must be 1 or more, not {max_concurrency!r}")
        self.timeout = timeout
        self.max_concurrency = max_concurrency
        self.retry = retry or RetryPolicy()
        self._lanes: Lanes = {}
        self._closed = False
        weakref.finalize(self, _forgotten, self._lanes).atexit = False

    @property
    def name(self) -> str:
        """The base URL without credentials and query."""
        return str(self._base.with_user(None).with_query(None))

    def url(self, path: str) -> URL:
        return self._base.joinpath(*path.split("/")).with_query(self._base.query)

    async def lane(self) -> Lane:
        """The running loop's session and permits. Raises EngineError after `aclose`."""
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        if lane is not None and not self._closed:
            return lane
        if self._closed:
            raise EngineError("this engine was closed; open the model again")
        for ended in [other for other in list(self._lanes) if other.is_closed()]:  # without shutting down
            del self._lanes[ended]
        session = aiohttp.ClientSession(
            # The permits bound what is in flight, so the connector need not.
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=self.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
        )
        lane = self._lanes[loop] = Lane(session, AdaptiveLimit(self.max_concurrency), self._lanes)
        await lane.open()
        return lane

    async def aclose(self) -> None:
        """Close the sessions of all running loops; one of a loop that stands still goes when that shuts down."""
        self._closed = True
        here = asyncio.get_running_loop()
        for loop, lane in list(self._lanes.items()):
            if loop is here:
                await lane.aclose()
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(lane.aclose(), loop)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.wrap_future(closing), 5.0)

    def shown(self, text: str) -> str:
        """What an upstream said, fit for an error: on one line, shortened, without the key."""
        line = " ".join(text.split())
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line if len(line) <= SAID else line[: SAID - 1] + "…"

    def failure(self, what: str, *, status: int | None = None, again: bool = False, **more: Any) -> Failure:
        error = UpstreamError(f"{self.name}: {self.shown(what)}", status=status, retryable=again)
        return Failure(error, again=again, **more)

    def answered(self, status: int, said: str, body: bytes = b"", wait: float | None = None) -> Failure:
        """An error that the server itself reported, by HTTP status or inside a reply."""
        hint = f" ({HINTS[status]})" if status in HINTS else ""
        again = status in RETRIED or status >= 500
        error = UpstreamError(
            f"{self.name} answered {status}: {self.shown(said) or 'nothing more'}{hint}", status=status, retryable=again
        )
        return Failure(error, again, wait, status in OVERLOADED, body)

    async def refused(self, response: aiohttp.ClientResponse, message: Callable[[bytes], str]) -> Failure:
        """The failure of a reply with an error status; ``message`` finds what was said in its body."""
        body = await read_within(response, ERROR_BYTES, cut=True) or b""
        said = message(body)
        if target := response.headers.get("Location"):
            said = f"it has moved to {target}; give the base URL of that place. {said}"
        return self.answered(response.status, said, body, _retry_after(response.headers.get("Retry-After")))

    def broken(self, error: Exception) -> Failure:
        """The failure behind an exception of the HTTP client."""
        match error:
            case aiohttp.SocketTimeoutError():  # not tried again: it took long enough
                what = UpstreamError(f"{self.name} sent nothing for {self.timeout:g} s", retryable=True)
                return Failure(what, overload=True)
            case aiohttp.ServerTimeoutError() | TimeoutError():
                return self.failure(f"no connection within {CONNECT_SECONDS:g} s", again=True, overload=True)
            case aiohttp.ClientSSLError() | ssl.SSLError():
                return self.failure(f"no secure connection: {error}")
            case aiohttp.ClientConnectorError():
                return self.failure(f"cannot connect ({error.os_error}); is the server running?", again=True)
            case aiohttp.ClientConnectionError() | aiohttp.ClientPayloadError() | OSError():
                return self.failure(f"the connection broke ({type(error).__name__}: {error})", again=True)
            case _:
                return self.failure(f"no valid HTTP reply ({type(error).__name__}: {error})")


async def read_within(response: aiohttp.ClientResponse, most: int, *, cut: bool = False) -> bytes | None:
    """The body. One of more than ``most`` bytes gives None, or its beginning where ``cut``; the rest is not read."""
    content = response.content
    parts: list[bytes] = []
    size = 0
    while part := await content.readany():
        size += len(part)
        if size > most:
            response.close()
            return b"".join((*parts, part))[:most] if cut else None
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _base(base_url: str) -> URL:
    try:
        url = URL(base_url.strip().rstrip("/"))
    except (ValueError, TypeError) as error:
        raise UsageError(f"the base URL does not parse: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError("the base URL must look like http://host:port/v1 or https://host/v1")
    return url


def _is_secret(header: str) -> bool:
    return any(word in header.lower() for word in ("key", "auth", "token", "secret", "cookie"))


def _retry_after(value: str | None) -> float | None:
    """Seconds from now, from a ``Retry-After`` in seconds or as a date (RFC 9110, 10.2.3); None where unreadable."""
    if not value:
        return None
    with contextlib.suppress(ValueError):
        seconds = float(value)
        return seconds if 0 <= seconds < float("inf") else None
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None
