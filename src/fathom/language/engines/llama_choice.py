"""What the worker works on: a choice that grows token by token, and a text that is read."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fathom.errors import EngineError
from fathom.language.engines.base import Request
from fathom.language.engines.llama_cache import CachedSequence
from fathom.language.engines.llama_model import Model
from fathom.language.engines.llama_sampling import Sampler, logprob, top_logprobs
from fathom.language.engines.threaded import Listener, ThreadedChoice, TopLogprobs

__all__ = ["Choice", "Reading"]


class Choice(ThreadedChoice):
    """One continuation of a prompt; the last of ``generated`` is not in the cache yet."""

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
        super().__init__(listener, index, prompt, request, model.vocabulary, lock)
        self.sequence: CachedSequence | None = None
        self._model = model
        self._make_sampler = sampler
        self._sampler: Sampler | None = None

    @property
    def last(self) -> int:
        """The token that the next step puts into the cache."""
        return self.generated[-1]

    def advance(self, logits: NDArray[np.float32], room: int) -> int:
        """Draw the next token; ``room`` is how many more the context would hold."""
        if self._sampler is None:
            self._sampler = self._make_sampler()
        token = self._sampler.draw(logits)
        self.append(token, room, lambda: self._measure(token, logits))
        return token

    def _measure(self, token: int, logits: NDArray[np.float32]) -> tuple[float, TopLogprobs]:
        count = self.request.sampling.top_logprobs
        spell = self._model.vocabulary.piece
        best = top_logprobs(logits, count) if count else []
        return logprob(logits, token), tuple((spell(i).decode(errors="replace"), value) for i, value in best)

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
