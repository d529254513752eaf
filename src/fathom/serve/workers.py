"""Several processes behind one port: started together, ended together, and started again where one falls.

The kernel shares new connections out among those that listen on the same port (``SO_REUSEPORT``). Limits of keys are
shared through a file (`shared`), counts through Prometheus's own; everything else is each worker's own: its models, its
queue, its view of the upstreams.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import msgspec

from fathom.errors import EngineError, FathomError, UsageError
from fathom.serve.config import Config, Limits
from fathom.serve.listening import bound, event_loop
from fathom.serve.shared import Share

__all__ = ["serve_by_workers"]

LOG = logging.getLogger("fathom.serve")

METRICS = "PROMETHEUS_MULTIPROC_DIR"  # where prometheus_client looks for what its processes share
QUICK = 5.0  # a worker that falls sooner than this is started again only after a pause
LONGEST_PAUSE = 30.0
GRACE = 5.0  # seconds beyond ``drain`` after which a worker is killed

_CONTEXT = multiprocessing.get_context("spawn")  # a forked child would share the parent's event loop and threads


@dataclass
class _Worker:
    """One of them."""

    process: SpawnProcess
    started: float
    pause: float = 0.0
    ready: Connection | None = field(default=None)


def serve_by_workers(config: Config, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; ``announce`` is told the URL once all workers listen.

    Raises UsageError where the system cannot share a port, EngineError where a worker does not start.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise UsageError("several workers need a system that can share a port; serve with one worker here")
    # The port is held, without listening, so that the workers know which it is and nobody else takes it.
    with tempfile.TemporaryDirectory(prefix="fathom-serve-") as name, bound(config, shared=True) as held:
        os.environ[METRICS] = name
        port = held.getsockname()[1]
        each = msgspec.structs.replace(config, port=port, limits=_shared_out(config))
        Supervisor(each, Share(Path(name), config.workers), config.limits.drain).run(announce)


def _shared_out(config: Config) -> Limits:
    """The bounds on how many run and wait, for each worker."""
    limits, n = config.limits, config.workers
    return msgspec.structs.replace(limits, concurrent=-(-limits.concurrent // n), queue=-(-limits.queue // n))


class Supervisor:
    """Starts workers, starts those again that fall, and ends them all."""

    def __init__(self, config: Config, share: Share, drain: float) -> None:
        self._config = config
        self._share = share
        self._drain = drain
        self._workers: list[_Worker] = []
        self._ending = False
        self._wake, self._woken = _CONTEXT.Pipe(duplex=False)

    def run(self, announce: Callable[[str], None]) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        try:
            self._workers = [self._start() for _ in range(self._share.workers)]
            urls = [self._url_of(worker) for worker in self._workers]
            if not self._ending:
                announce(urls[0])
            while not self._ending:
                wait([self._wake, *(worker.process.sentinel for worker in self._workers)])
                if not self._ending:
                    self._workers = [self._renewed(worker) for worker in self._workers]
        finally:
            self._stop()

    def _end(self, number: int, frame: object) -> None:
        self._ending = True
        self._woken.send(number)

    def _start(self, pause: float = 0.0) -> _Worker:
        ready, telling = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(target=_work, args=(self._config, self._share, telling), name="fathom-worker")
        process.start()
        telling.close()
        return _Worker(process, time.monotonic(), pause, ready)

    def _url_of(self, worker: _Worker) -> str:
        """Wait until it listens. Raises EngineError where it ends before."""
        assert worker.ready is not None
        try:
            return str(worker.ready.recv())
        except EOFError:
            if self._ending:
                return ""
            raise EngineError("a worker ended before it could listen; see above") from None

    def _renewed(self, worker: _Worker) -> _Worker:
        """The worker, or another one in its place."""
        process = worker.process
        if process.is_alive():
            return worker
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(process.pid, os.fspath(self._share.directory))  # type: ignore[no-untyped-call]
        LOG.error("worker %s ended with status %s; starting another", process.pid, process.exitcode)
        quick = time.monotonic() - worker.started < QUICK
        pause = min(LONGEST_PAUSE, max(0.5, 2 * worker.pause)) if quick else 0.0
        if pause and self._wake.poll(pause):
            return worker  # all are to end
        return self._start(pause)

    def _stop(self) -> None:
        for worker in self._workers:
            if worker.process.is_alive():
                worker.process.terminate()
        until = time.monotonic() + self._drain + GRACE
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            if worker.process.is_alive():
                LOG.error("worker %s has not ended in time, and is killed", worker.process.pid)
                worker.process.kill()
                worker.process.join()


def _work(config: Config, share: Share, telling: Connection) -> None:
    """A worker's whole life."""
    from fathom.serve.server import Server

    logging.basicConfig(format="%(asctime)s %(process)d %(levelname)s %(message)s")
    logging.getLogger("fathom.serve").setLevel(logging.INFO if config.log else logging.WARNING)

    async def run() -> None:
        async with Server(config, share) as server:
            telling.send(server.url)
            telling.close()
            parent = multiprocessing.parent_process()
            assert parent is not None
            asyncio.get_running_loop().add_reader(parent.sentinel, os.kill, os.getpid(), signal.SIGTERM)
            try:
                await server.serve()
            finally:
                asyncio.get_running_loop().remove_reader(parent.sentinel)

    try:
        with asyncio.Runner(loop_factory=event_loop) as runner:
            runner.run(run())
    except FathomError as error:
        print(f"fathom: {error}", file=sys.stderr)
        sys.exit(1)
