"""The thread that owns a model of transformers: batches take turns, one step each.

The choices of a prompt are a batch; batches of several prompts are not joined, but none waits for another to end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from fathom.errors import EngineError
from fathom.language.drafting import Lookahead
from fathom.language.engines.hf_batch import HFBatch, HFChoice
from fathom.language.engines.hf_cache import PrefixCache
from fathom.language.engines.hf_model import HFModel
from fathom.language.engines.llama_cache import common_prefix
from fathom.language.engines.threaded import Listener

__all__ = ["HFWorker"]

_SHARED = 16  # tokens that are worth waiting for, while another batch reads them
Found = TypeVar("Found")


class HFWorker:
    """Runs the choices given to it, at most ``width`` at a time, until ``close()``.

    ``lock`` guards all that other threads see. ``kept`` belongs to the thread.
    """

    def __init__(self, model: HFModel, *, width: int, limit: int, kept: int, lookahead: Lookahead | None) -> None:
        self.lock = threading.Lock()
        self._changed = threading.Condition(self.lock)
        self._model, self._width, self._limit = model, width, limit
        self._lookahead = lookahead
        self.kept = PrefixCache(kept)
        self._inbox: deque[Callable[[], None]] = deque()
        self._waiting: deque[list[HFChoice]] = deque()
        self._batches: list[HFBatch] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="fathom-hf", daemon=True)
        self._thread.start()

    # what other threads call

    def submit(self, choices: list[HFChoice]) -> None:
        """Queue choices of one prompt. Raises EngineError on a closed engine."""
        with self._changed:
            self._check_open()
            self._waiting.append(choices)
            self._changed.notify()

    def call(self, job: Callable[[], Found]) -> Future[Found]:
        """Run ``job`` on the thread between two steps. Raises EngineError on a closed engine."""
        done: Future[Found] = Future()

        def run() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                done.set_result(job())
            except Exception as error:
                done.set_exception(_failure(error))

        with self._changed:
            self._check_open()
            self._inbox.append(run)
            self._changed.notify()
        return done

    def _check_open(self) -> None:
        if self._closing:
            raise EngineError("the engine was closed")

    def close(self) -> None:
        """End the thread after the step under way. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    # the thread

    def _run(self) -> None:
        error = EngineError("the engine was closed while this was running")
        try:
            while self._turn():
                pass
        except BaseException as unexpected:
            error = EngineError(f"the engine of transformers failed: {unexpected!r}")
            raise
        finally:
            with self.lock:
                self._closing = True
            for job in self._inbox:
                job()
            for choices in (*self._waiting, *(batch.choices for batch in self._batches)):
                _fail(choices, error)
            self._waiting.clear()
            self._batches = []

    def _turn(self) -> bool:
        """One step of each batch; False when the engine is closed."""
        with self._changed:
            while not (self._closing or self._inbox or self._waiting or self._batches):
                self._changed.wait()
            if self._closing:
                return False
            jobs = list(self._inbox)
            self._inbox.clear()
        for job in jobs:
            job()
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
        return True

    def _admit(self) -> None:
        """Let waiting choices begin, in order, as far as there is width."""
        now = time.monotonic()
        with self.lock:
            waiting = list(self._waiting)
            self._waiting.clear()
        late = {choice.listener for choices in waiting for choice in choices if choice.late(now)}
        while waiting:
            live = [choice for choice in waiting[0] if not choice.closed]
            room = self._width - sum(len(batch.choices) for batch in self._batches)
            if live and (room <= 0 or self._soon(live[0].prompt)):
                break
            waiting.pop(0)
            if live[room:]:
                waiting.insert(0, live[room:])
            if live:
                self._begin(live[:room])
        with self.lock:
            self._waiting.extendleft(reversed(waiting))
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
