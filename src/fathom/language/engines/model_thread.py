"""A thread that owns a model: it steps while there is work, does the jobs of other threads between two steps, and ends
without leaving anybody waiting.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from fathom.errors import EngineError

__all__ = ["ModelThread"]

Found = TypeVar("Found")


class ModelThread(ABC):
    """``lock`` guards all that other threads see of it. A subclass starts it when it is ready itself."""

    engine = "the engine"
    """How errors call it."""

    def __init__(self, name: str) -> None:
        self.lock = threading.Lock()
        self._changed = threading.Condition(self.lock)
        self._inbox: deque[Callable[[], None]] = deque()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    # what other threads call

    def start(self) -> None:
        self._thread.start()

    def call(self, job: Callable[[], Found]) -> Future[Found]:
        """Run ``job`` on the thread between two steps. Raises EngineError on a closed engine."""
        done: Future[Found] = Future()

        def run() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                done.set_result(job())
            except Exception as error:
                done.set_exception(self.told(error))

        with self._changed:
            if self._closing:
                raise EngineError("the engine was closed")
            self._inbox.append(run)
            self._changed.notify()
        return done

    def close(self) -> None:
        """End the thread; what still runs fails. Idempotent."""
        with self._changed:
            self._closing = True
            self.interrupt()
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    # the thread

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether there is something to step for."""

    @abstractmethod
    def step(self) -> None:
        """Go on by one step."""

    @abstractmethod
    def end(self, error: EngineError) -> None:
        """Fail all that has not come to its end, and free what is held."""

    def interrupt(self) -> None:  # noqa: B027  (not every step can be)
        """End the step under way early; the lock is held."""

    def told(self, error: Exception) -> Exception:
        """What the caller of a job is told of its error."""
        return error

    def _run(self) -> None:
        error = EngineError("the engine was closed while this was running")
        try:
            while self._turn():
                pass
        except BaseException as unexpected:
            error = EngineError(f"{self.engine} failed: {unexpected!r}")
            raise
        finally:
            with self.lock:
                self._closing = True
            for job in self._inbox:  # who waits for one is told
                job()
            self.end(error)

    def _turn(self) -> bool:
        """Jobs, then a step; False when the engine is closed."""
        with self._changed:
            while not (self._closing or self._inbox or self.busy):
                self._changed.wait()
            if self._closing:
                return False
            jobs = list(self._inbox)
            self._inbox.clear()
        for job in jobs:
            job()
        self.step()
        return True
