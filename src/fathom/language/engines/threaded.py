"""Choices that one thread advances and an event loop reads: what engines that run in this process share.

The thread that owns the model puts what is new into a choice and wakes its reader at most once a step; the reader takes
it when it comes round, in one piece per choice, however many steps it missed. All that both touch (``pending``,
``closed``) is guarded by the engine's lock.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol, Self

from fathom.errors import EngineError
from fathom.language.engines.base import CallPart, Finish, Piece, Request
from fathom.language.engines.text_stream import TextStream
from fathom.language.engines.tool_calls import CallReader, forbidden

__all__ = ["Listener", "Spelling", "ThreadedChoice", "ThreadedEngine", "ThreadedGeneration", "TopLogprobs"]

TopLogprobs = tuple[tuple[str, float], ...]
Measured = tuple[bytes, float, TopLogprobs]


class Spelling(Protocol):
    """What the tokens of a model stand for."""

    def ends(self, token: int) -> bool:
        """Whether it ends the model's turn."""

    def piece(self, token: int) -> bytes:
        """Its bytes; none for a control token."""

    def tokenize(self, text: str) -> list[int]: ...


class Listener(Protocol):
    """Who reads the pieces of a choice."""

    def post(self, choice: ThreadedChoice) -> None:
        """``choice`` has something pending. The lock is held."""

    def notify(self) -> None:
        """Wake the reader, from any thread."""


class ThreadedChoice:
    """One continuation of a prompt. ``prompt`` and ``generated`` are token ids."""

    def __init__(
        self,
        listener: Listener,
        index: int,
        prompt: list[int],
        request: Request,
        spelling: Spelling,
        lock: threading.Lock,
    ) -> None:
        self.listener, self.index, self.prompt, self.request = listener, index, prompt, request
        self.generated: list[int] = []
        self.pending = Piece(index)
        self.closed = False  # nobody wants more of it: it came to its end, or was cancelled
        self._spelling, self._lock = spelling, lock
        self._text = TextStream(request.sampling.stop)
        tools = request.prompt.tools
        self._calls = None if tools is None or forbidden(tools) else CallReader(tools.names)
        self._alone = tools is not None and tools.parallel is False  # the first call is the last
        self._measured: deque[Measured] = deque()  # the tokens whose text is held back
        self._accounted = False

    @property
    def measured(self) -> bool:
        """Whether log-probabilities are wanted."""
        return bool(self.request.sampling.logprobs or self.request.sampling.top_logprobs)

    def account(self, tokens: int, reused: int, *, first: bool) -> None:
        """Report what its prompt cost: the first choice of a shared reading bears the reading of all."""
        if self._accounted:  # it was crowded out and is read again
            return
        self._accounted = True
        with self._lock:
            self.pending.prompt_tokens = tokens - reused if first else 0
            self.pending.reused_tokens = reused if first else tokens

    def append(self, token: int, room: int, measure: Callable[[], tuple[float, TopLogprobs]] | None = None) -> None:
        """The next token; ``room`` is how many more the context would hold, ``measure`` gives its log-probability."""
        self.generated.append(token)
        finish: Finish | None = None
        if self._spelling.ends(token):
            finish = Finish.STOP
            text, ids = self._text.flush()
        else:
            piece = self._spelling.piece(token)
            if measure is not None and self.measured:
                self._measured.append((piece, *measure()))
            text, ids = self._text.feed(token, piece)
            if self._text.stopped:
                finish = Finish.STOP
            elif len(self.generated) >= self.request.max_tokens or room < 1:
                finish = Finish.LENGTH
                rest, rest_ids = self._text.flush()
                text, ids = text + rest, ids + rest_ids
        measured = [self._measured.popleft() for _ in ids] if self._measured else []
        if self._text.stopped:
            ids = ids + self._spelling.tokenize(self._text.remainder)
        self._put(text, ids, measured, finish)

    def drafted(self, accepted: int, rejected: int) -> None:
        """Report what came of a draft."""
        with self._lock:
            self.pending.accepted_draft_tokens += accepted
            self.pending.rejected_draft_tokens += rejected

    def _put(self, text: str, ids: list[int], measured: list[Measured], finish: Finish | None) -> None:
        calls: tuple[CallPart, ...] = ()
        if self._calls is not None:
            text, calls = self._calls.feed(text, last=finish is not None)
            if calls and self._alone:
                calls, finish = calls[:1], finish or Finish.STOP
        with self._lock:
            if self.closed:
                return
            piece = self.pending
            piece.text += text
            piece.calls += calls
            piece.tokens += 1
            piece.token_ids += tuple(ids)
            if measured:
                piece.spelled += tuple(spelled for spelled, _, _ in measured)
                piece.logprobs += tuple(value for _, value, _ in measured)
                if self.request.sampling.top_logprobs:
                    piece.top_logprobs += tuple(best for _, _, best in measured)
            piece.finish = finish
            if finish is Finish.STOP:
                piece.stopped_by = self._text.stopped or ""
            self.closed = finish is not None
            if finish is not None or self.request.stream:
                self.listener.post(self)

    def fail(self, error: EngineError) -> None:
        """It cannot go on."""
        with self._lock:
            self.close(Finish.FAILED, error)

    def close(self, finish: Finish, error: EngineError | None = None) -> None:
        """End it now, from either thread; the lock is held."""
        if not self.closed:
            self.closed = True
            self.pending.finish, self.pending.error = finish, error
            self.listener.post(self)

    def late(self, now: float) -> bool:
        """Whether its deadline has passed; then it is cancelled."""
        deadline = self.request.deadline
        if deadline is None or now < deadline:
            return False
        with self._lock:
            self.close(Finish.CANCELLED)
        return True

    def take(self) -> Piece:
        """What came since the last call; the lock is held."""
        piece, self.pending = self.pending, Piece(self.index)
        return piece


class ThreadedEngine(Protocol):
    """An engine whose model is owned by one thread."""

    @property
    def lock(self) -> threading.Lock:
        """Guards what choices have pending."""

    async def start(self, generation: ThreadedGeneration, request: Request) -> Sequence[ThreadedChoice]:
        """Queue the choices of a generation."""

    def forget(self, choices: Sequence[ThreadedChoice]) -> None:
        """These were closed by their reader; the lock is held."""


class ThreadedGeneration:
    """A running request; the reader's side of its choices."""

    def __init__(self, engine: ThreadedEngine, request: Request) -> None:
        self._engine = engine  # kept, so that the engine is not freed while this runs
        self._request = request
        self._choices: Sequence[ThreadedChoice] = []
        self._ready: deque[ThreadedChoice] = deque()
        self._open = request.n
        self._waiter: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._choices = await self._engine.start(self, self._request)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Give up whatever still runs; nothing is waited for."""
        with self._engine.lock:
            for choice in self._choices:
                choice.close(Finish.CANCELLED)
            self._engine.forget(self._choices)

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self

    async def __anext__(self) -> Piece:
        while True:
            with self._engine.lock:
                piece = self._ready.popleft().take() if self._ready else None
                if piece is None and self._open:
                    self._waiter = asyncio.get_running_loop().create_future()
            if piece is not None:
                self._open -= piece.finish is not None
                return piece
            if not self._open or self._waiter is None:
                raise StopAsyncIteration
            await self._waiter

    def cancel(self, index: int) -> None:
        """End choice ``index`` now; its last piece is ready at once."""
        with self._engine.lock:
            choice = self._choices[index]
            choice.close(Finish.CANCELLED)
            self._engine.forget([choice])
        self._wake()

    def post(self, choice: ThreadedChoice) -> None:
        if choice not in self._ready:
            self._ready.append(choice)

    def notify(self) -> None:
        """From the worker: wake the reader, if it sleeps; give up for it, if its loop is gone."""
        loop = self._loop
        if loop is None:
            return
        try:
            if loop.is_closed():
                raise RuntimeError
            if self._waiter is not None:
                loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # it was closed, before or just now, and nobody left the block
            with self._engine.lock:
                for choice in self._choices:
                    choice.close(Finish.CANCELLED)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
