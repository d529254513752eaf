"""What the worker works on: a choice that grows token by token, and a text that is read.

A choice is shared by two threads. The worker alone advances it; its reader takes the pieces and may close it. All
that both touch (``pending``, ``closed``) is guarded by the worker's lock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fathom.errors import EngineError
from fathom.language.engines.base import Finish, Piece, Request
from fathom.language.engines.llama_cache import CachedSequence
from fathom.language.engines.llama_model import Model
from fathom.language.engines.llama_sampling import Sampler, logprob, top_logprobs
from fathom.language.engines.llama_text import TextStream

__all__ = ["Choice", "Listener", "Reading"]

TopLogprobs = tuple[tuple[str, float], ...]


class Listener(Protocol):
    """Who reads the pieces of a choice."""

    def post(self, choice: Choice) -> None:
        """``choice`` has something pending. The lock is held."""

    def notify(self) -> None:
        """Wake the reader, from any thread."""


class Choice:
    """One continuation of a prompt. ``prompt`` and ``generated`` are token ids; the last is not in the cache yet."""

    def __init__(
        self,
        listener: Listener,
        index: int,
        prompt: list[int],
        request: Request,
        model: Model,
        sampler: Callable[[], Sampler],
        lock: threading.Lock,
    ) -> None:
        self.listener, self.index, self.prompt = listener, index, prompt
        self.generated: list[int] = []
        self.sequence: CachedSequence | None = None
        self.pending = Piece(index)
        self.closed = False  # nobody wants more of it: it came to its end, or was cancelled
        self._request, self._model, self._lock = request, model, lock
        self._make_sampler = sampler
        self._sampler: Sampler | None = None
        self._text = TextStream(request.sampling.stop)
        self._logprobs: deque[tuple[float, TopLogprobs]] = deque()  # of the tokens whose text is held back
        self._accounted = False

    @property
    def last(self) -> int:
        """The token that the next step puts into the cache."""
        return self.generated[-1]

    def account(self, tokens: int, reused: int, *, first: bool) -> None:
        """Report what its prompt cost: the first choice of a shared reading bears the reading of all."""
        if self._accounted:  # it was crowded out and is read again
            return
        self._accounted = True
        with self._lock:
            self.pending.prompt_tokens = tokens - reused if first else 0
            self.pending.reused_tokens = reused if first else tokens

    def advance(self, logits: NDArray[np.float32], room: int) -> None:
        """Draw the next token; ``room`` is how many more the context would hold."""
        if self._sampler is None:
            self._sampler = self._make_sampler()
        token = self._sampler.draw(logits)
        self.generated.append(token)
        finish: Finish | None = None
        if self._model.vocabulary.ends(token):
            finish = Finish.STOP
            text, ids = self._text.flush()
        else:
            if self._request.sampling.logprobs or self._request.sampling.top_logprobs:
                self._logprobs.append(self._measure(token, logits))
            text, ids = self._text.feed(token, self._model.vocabulary.piece(token))
            if self._text.stopped:
                finish = Finish.STOP
            elif len(self.generated) >= self._request.max_tokens or room < 1:
                finish = Finish.LENGTH
                rest, rest_ids = self._text.flush()
                text, ids = text + rest, ids + rest_ids
        logprobs = [self._logprobs.popleft() for _ in ids] if self._logprobs else []
        if self._text.stopped:
            ids = ids + self._model.vocabulary.tokenize(self._text.remainder)
        self._put(text, ids, logprobs, finish)

    def _put(self, text: str, ids: list[int], logprobs: list[tuple[float, TopLogprobs]], finish: Finish | None) -> None:
        with self._lock:
            if self.closed:
                return
            piece = self.pending
            piece.text += text
            piece.tokens += 1
            piece.token_ids += tuple(ids)
            piece.logprobs += tuple(value for value, _ in logprobs)
            if self._request.sampling.top_logprobs:
                piece.top_logprobs += tuple(best for _, best in logprobs)
            piece.finish = finish
            if finish is Finish.STOP:
                piece.stopped_by = self._text.stopped or ""
            self.closed = finish is not None
            if finish is not None or self._request.stream:
                self.listener.post(self)

    def _measure(self, token: int, logits: NDArray[np.float32]) -> tuple[float, TopLogprobs]:
        count = self._request.sampling.top_logprobs
        spell = self._model.vocabulary.piece
        best = top_logprobs(logits, count) if count else []
        return logprob(logits, token), tuple((spell(i).decode(errors="replace"), value) for i, value in best)

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
        deadline = self._request.deadline
        if deadline is None or now < deadline:
            return False
        with self._lock:
            self.close(Finish.CANCELLED)
        return True

    def take(self) -> Piece:
        """What came since the last call; the lock is held."""
        piece, self.pending = self.pending, Piece(self.index)
        return piece

    def release(self) -> None:
        """Free its native memory; called by the worker, once it is through with it."""
        if self._sampler is not None:
            self._sampler.free()
            self._sampler = None


class Reading:
    """A text that is being read: the shared prompt of ``choices``, or one that is only warmed or scored.

    Row i of the logits is what the model expects after token i. ``first_row`` is the first that is wanted, by
    ``on_row`` where it is given, and otherwise by the choices, which need the last.
    """

    def __init__(
        self,
        tokens: list[int],
        choices: list[Choice],
        *,
        first_row: int | None = None,
        on_row: Callable[[int, NDArray[np.float32]], None] | None = None,
        on_end: Callable[[EngineError | None], None] | None = None,
    ) -> None:
        self.tokens, self.choices = tokens, choices
        self.first_row = len(tokens) - 1 if first_row is None else first_row
        self.on_row, self.on_end = on_row, on_end
        self.sequence: CachedSequence | None = None
        self.cancelled = False

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for it."""
        return any(not c.closed for c in self.choices) if self.choices else not self.cancelled
