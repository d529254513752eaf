"""The thread that owns a model of transformers: batches take turns, one step each.

The choices of a prompt are a batch; batches of several prompts are not joined, but none waits for another to end.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from fathom.errors import EngineError
from fathom.language.drafting import Lookahead
from fathom.language.engines.common_prefix import common_prefix
from fathom.language.engines.hf_batch import HFBatch, HFChoice
from fathom.language.engines.hf_cache import PrefixCache
from fathom.language.engines.hf_model import HFModel
from fathom.language.engines.model_thread import ModelThread
from fathom.language.engines.threaded import Listener

__all__ = ["HFWorker"]

_SHARED = 16  # tokens that are worth waiting for, while another batch reads them


class HFWorker(ModelThread):
    """Runs the choices given to it, at most ``width`` at a time, until ``close()``. ``kept`` belongs to the thread."""

    engine = "the engine of transformers"

    def __init__(self, model: HFModel, *, width: int, limit: int, kept: int, lookahead: Lookahead | None) -> None:
        super().__init__("fathom-hf")
        self._model, self._width, self._limit = model, width, limit
        self._lookahead = lookahead
        self.kept = PrefixCache(kept)
        self._waiting: deque[Sequence[HFChoice]] = deque()
        self._batches: list[HFBatch] = []
        self.start()

    def submit(self, choices: Sequence[HFChoice]) -> None:
        """Queue choices of one prompt. Raises EngineError on a closed engine."""
        self.call(lambda: self._waiting.append(choices))

    # the thread

    def told(self, error: Exception) -> EngineError:
        return _failure(error)

    def end(self, error: EngineError) -> None:
        for choices in (*self._waiting, *(batch.choices for batch in self._batches)):
            _fail(choices, error)
        self._waiting.clear()
        self._batches = []

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._batches)

    def step(self) -> None:
        """One step of each batch."""
        self._admit()
        for batch in list(self._batches):
            listeners = {choice.listener for choice in batch.choices}
            try:
                batch.reap()
                if batch.choices:
                    batch.step()
                    batch.reap()
            except (RuntimeError, ValueError, IndexError) as error:  # out of memory, most likely
                _fail(batch.choices, _failure(error))
                batch.choices = []
            if not batch.choices:
                self._batches.remove(batch)
            _wake(listeners)

    def _admit(self) -> None:
        """Let waiting choices begin, in order, as far as there is width."""
        now = time.monotonic()
        late = {choice.listener for choices in self._waiting for choice in choices if choice.late(now)}
        while self._waiting:
            live = [choice for choice in self._waiting[0] if not choice.closed]
            room = self._width - sum(len(batch.choices) for batch in self._batches)
            if live and (room <= 0 or self._soon(live[0].prompt)):
                break
            self._waiting.popleft()
            if live[room:]:
                self._waiting.appendleft(live[room:])
            if live:
                self._begin(live[:room])
        _wake(late)

    def _begin(self, choices: Sequence[HFChoice]) -> None:
        try:
            self._batches.append(HFBatch(self._model, self.kept, choices, self._lookahead, limit=self._limit))
        except RuntimeError as error:
            _fail(choices, _failure(error))

    def _soon(self, prompt: Sequence[int]) -> bool:
        """Whether a batch will shortly have read much more of a prompt than is kept now."""
        _, known = self.kept.longest(prompt)
        return any(b.reading and common_prefix(b.prompt, prompt) >= known + _SHARED for b in self._batches)


def _wake(listeners: set[Listener]) -> None:
    for listener in listeners:
        listener.notify()


def _fail(choices: Sequence[HFChoice], error: EngineError) -> None:
    for choice in choices:
        choice.fail(error)
    _wake({choice.listener for choice in choices})


def _failure(error: Exception) -> EngineError:
    if isinstance(error, EngineError):
        return error
    said = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    return EngineError(f"transformers could not run the model: {said}")
