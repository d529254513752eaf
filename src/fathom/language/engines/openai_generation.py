"""One request to a chat completions server while it runs: parts, each an upstream request of its own, and one line of
pieces.

A part asks for one choice or, where the server honours n, for many. It is one task from its first attempt to its last,
so a part that fails costs its own choices and nothing else. Everything that is cancelled closes its connection, which
is how a server learns to stop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import aiohttp
from yarl import URL

from fathom.errors import CapabilityError, EngineError, UsageError
from fathom.language.engines.base import Finish, Piece, Request
from fathom.language.engines.openai_dialect import Dialect, context_left, encode
from fathom.language.engines.openai_reply import Exchange
from fathom.language.engines.openai_wire import EventStream, refusal
from fathom.language.engines.upstream import Failure, Upstream, read_within

__all__ = ["OpenAIGeneration"]

REPLY_BYTES = 64 << 20
ACCOUNT_SECONDS = 1.0  # to wait for the server's count once every choice has ended
CLOSE_SECONDS = 0.05  # to wait for the end of the stream after [DONE], so that the connection can be kept


class Source(Protocol):
    """What a generation needs of its engine: the upstream, and what is known of it."""

    upstream: Upstream
    dialect: Dialect

    @property
    def model(self) -> str: ...

    @property
    def url(self) -> URL: ...

    async def identify(self) -> object: ...


@dataclass(slots=True, eq=False)
class _Part:
    """An upstream request for some of the choices, with its retries."""

    indices: list[int]
    task: asyncio.Task[None] | None = None
    exchange: Exchange | None = field(default=None)  # the attempt that is under way


class OpenAIGeneration:
    """See `fathom.language.engines.base.Generation`. What was not read inside the block can be read after it."""

    def __init__(self, source: Source, request: Request) -> None:
        self.request = request
        self._source = source
        self._open = [True] * request.n
        self._left = request.n
        self._part_of: list[_Part | None] = [None] * request.n
        self._tasks: set[asyncio.Task[None]] = set()
        self._pieces: deque[Piece] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._crash: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._template: tuple[Dialect, bool, bytes] | None = None
        self._prompt_tokens = 0
        self._entered = False

    # What an exchange needs to know.

    @property
    def upstream(self) -> Upstream:
        return self._source.upstream

    @property
    def dialect(self) -> Dialect:
        return self._source.dialect

    @dialect.setter
    def dialect(self, dialect: Dialect) -> None:
        self._source.dialect = dialect

    def wants(self, index: int) -> bool:
        return self._open[index]

    def emit(self, piece: Piece) -> None:
        if not self._open[piece.index]:
            return
        self._pieces.append(piece)
        if piece.finish is not None:
            self._open[piece.index] = False
            self._left -= 1
        self._wake()

    def alone(self, exchange: Exchange) -> None:
        if not self.dialect.proven:  # the server ignores n
            self.dialect = replace(self.dialect, many=1)
            self._launch(exchange.narrow())

    def read(self, prompt_tokens: int) -> None:
        self._prompt_tokens = prompt_tokens

    # What the caller does.

    async def __aenter__(self) -> Self:
        request = self.request
        if request.prompt.prefix:
            if self.dialect.prefix is None:
                await self._source.identify()
            if self.dialect.prefix not in ("continue", "native"):
                raise CapabilityError(
                    f"{self.upstream.name} is not known to continue an assistant's turn; if it does, say "
                    "prefix='continue' (vLLM, SGLang) or prefix='native' (llama.cpp)"
                )
        self._body(False)  # what cannot be encoded is refused here, before anything is sent
        self._entered = True
        loop = asyncio.get_running_loop()
        if request.deadline is not None:
            left = request.deadline - time.monotonic()
            if left <= 0:
                self._expire()
                return self
            self._timer = loop.call_later(left, self._expire)
        self._launch(range(request.n))
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for index, still in enumerate(self._open):
            if still:
                self.cancel(index)
        if self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        while not self._pieces:
            if self._crash is not None:
                raise self._crash
            if not self._left:
                raise StopAsyncIteration
            if not self._entered:
                raise UsageError("a generation is read inside its 'async with' block")
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self._pieces.popleft()

    def cancel(self, index: int) -> None:
        part = self._part_of[index]
        exchange = part.exchange if part else None
        if exchange is not None and self._open[index]:
            exchange.hurry(index)
        self._cut(index, Finish.CANCELLED)
        if part is None or part.task is None:
            return
        abandoned = exchange is not None and exchange.ended and not exchange.complete
        if abandoned or not any(self._open[other] for other in part.indices):
            part.task.cancel()

    # How it runs.

    def _launch(self, indices: Sequence[int], *, singly: bool = False) -> None:
        """Begin the parts for ``indices``, as few and as even as the server's bound on n allows."""
        many = 1 if singly else self.dialect.many or len(indices)
        count = -(-len(indices) // many)
        loop = asyncio.get_running_loop()
        for k in range(count):
            part = _Part(list(indices[k * len(indices) // count : (k + 1) * len(indices) // count]))
            for index in part.indices:
                self._part_of[index] = part
            part.task = loop.create_task(self._run(part))
            self._tasks.add(part.task)
            part.task.add_done_callback(self._tasks.discard)

    async def _run(self, part: _Part) -> None:
        try:
            await self._serve(part)
        except asyncio.CancelledError:
            if part.exchange is not None:
                part.exchange.settle()
            raise
        except EngineError as error:
            self._fail(part.indices, error)
        except Exception as error:  # a fault of ours: to be raised where the pieces are read, not lost in a task
            self._crash = error
            self._wake()

    async def _serve(self, part: _Part) -> None:
        """Attempts until the part's choices have come or failed."""
        tried = 0
        while part.indices:
            sent = self.dialect
            streamed = self.request.stream or (len(part.indices) > 1 and sent.one_choice_usage)
            asked = len(part.indices)
            part.exchange = exchange = Exchange(self, part.indices)
            failure = await self._attempt(exchange, streamed)
            exchange.settle()
            exchange.sent = exchange.heard  # what was refused was not read
            rest = [index for index in exchange.indices if self._open[index]]
            fresh = [index for index in rest if not exchange.touched(index)]
            if failure is None:
                self._top_up(exchange, fresh)
                failure = self.upstream.failure("the choice never ended")
                return self._fail([index for index in rest if exchange.touched(index)], failure.error)
            self._fail([index for index in rest if exchange.touched(index)], failure.error)
            if fresh and self._reword(failure, sent, asked, streamed):
                return self._launch(fresh)
            if asked > 1 and failure.error.status is None and not failure.overload:
                failure = replace(failure, again=True)  # a garbled reply shall not cost so many choices
            tried += 1
            wait = self.upstream.retry.wait(failure, tried, self.request.deadline)
            if wait is None or not fresh:
                return self._fail(fresh, failure.error)
            part.indices, part.exchange = fresh, None
            await asyncio.sleep(wait)
            part.indices = [index for index in fresh if self._open[index]]
        return None

    async def _attempt(self, exchange: Exchange, streamed: bool) -> Failure | None:
        lane = await self.upstream.lane()
        async with lane.limit:
            session = (await self.upstream.lane()).session  # for it may have been closed meanwhile
            since = time.monotonic()
            body = self._body(streamed, exchange.indices)
            failure = await self._post(session, body, exchange, streamed)
            if failure is None:
                lane.limit.succeeded()
            elif failure.overload:
                lane.limit.overloaded(since)
        return failure

    async def _post(
        self, session: aiohttp.ClientSession, body: bytes, exchange: Exchange, streamed: bool
    ) -> Failure | None:
        upstream = self.upstream
        exchange.sent = True
        try:
            async with session.post(self._source.url, data=body, allow_redirects=False) as response:
                if response.status >= 300:
                    return await upstream.refused(response, lambda body: refusal(body).message)
                exchange.heard = True
                if streamed and response.content_type not in ("application/json", "text/html"):
                    return await self._read_stream(response, exchange)
                raw = await read_within(response, REPLY_BYTES)
                if raw is None:
                    return upstream.failure(f"a reply of more than {REPLY_BYTES >> 20} MiB")
                return exchange.take_whole(raw)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return upstream.broken(error)

    async def _read_stream(self, response: aiohttp.ClientResponse, exchange: Exchange) -> Failure | None:
        events = EventStream()
        loop = asyncio.get_running_loop()
        content = response.content
        patience = asyncio.timeout(None)
        try:
            async with patience:
                while chunk := await content.readany():
                    for data in events.feed(chunk):
                        if failure := exchange.take_event(data):
                            return failure
                    exchange.flush()
                    if exchange.ended:
                        if not exchange.complete:
                            response.close()  # what still comes is of choices that nobody wants
                            break
                        if patience.when() is None or exchange.done:
                            patience.reschedule(loop.time() + (CLOSE_SECONDS if exchange.done else ACCOUNT_SECONDS))
                else:
                    for data in events.close():
                        if failure := exchange.take_event(data):
                            return None if exchange.ended else failure
        except TimeoutError:
            if not patience.expired():
                raise
        except ValueError as error:
            return self.upstream.failure(f"sent {error}")
        return exchange.finish()

    def _body(self, streamed: bool, indices: Sequence[int] = ()) -> bytes:
        dialect = self.dialect
        template = self._template
        if template is None or template[0] is not dialect or template[1] is not streamed:
            encoded = encode(self._source.model, self.request, dialect, stream=streamed)
            self._template = template = (dialect, streamed, encoded)
        if not indices:
            return template[2]
        tail = b""
        if len(indices) > 1:
            tail += b',"n":%d' % len(indices)
        if self.request.seed is not None and dialect.seed:
            tail += b',"seed":%d' % (self.request.seed + indices[0])
        return b"%b%b}" % (template[2], tail)

    def _top_up(self, exchange: Exchange, missing: list[int]) -> None:
        """Ask singly for what a reply with too few choices left out."""
        if missing:
            self.dialect = self.dialect.after_short(exchange.choices)
            self._launch(missing, singly=True)

    def _reword(self, failure: Failure, sent: Dialect, asked: int, streamed: bool) -> bool:
        """Learn from a refusal. Whether the request is worth sending again in other words."""
        if failure.error.status not in (400, 422) or not failure.body:
            return False
        refused = refusal(failure.body)
        if room := context_left(refused.message, self.request.max_tokens):
            self.request, self._template = replace(self.request, max_tokens=room), None
            return True
        if sent.after(refused, self.request, asked, streamed) is None:
            return False
        self.dialect = self.dialect.after(refused, self.request, asked, streamed) or self.dialect
        return True

    def _fail(self, indices: Sequence[int], error: EngineError) -> None:
        for index in indices:
            self._cut(index, Finish.FAILED, error)

    def _expire(self) -> None:
        for part in {id(part): part for part in self._part_of if part is not None}.values():
            if part.exchange is not None:
                part.exchange.settle()
            if part.task is not None:
                part.task.cancel()
        for index in range(self.request.n):
            self._cut(index, Finish.CANCELLED)

    def _cut(self, index: int, finish: Finish, error: EngineError | None = None) -> None:
        """The last piece of a choice that the server did not end, charging the prompt where the server had read it."""
        if not self._open[index]:
            return
        piece = Piece(index, finish=finish, error=error, estimated=True)
        part = self._part_of[index]
        if part is not None and part.exchange is not None and part.exchange.sent:
            others = (other for other in part.indices if other != index)
            if not any(self._open[other] for other in others):
                piece.prompt_tokens = self._prompt_tokens or self.request.prompt.guessed_tokens
        self.emit(piece)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
