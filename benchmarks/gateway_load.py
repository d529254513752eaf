"""What the gateway's benchmarks share: a server in a process of its own, and a client that costs next to nothing.

Not a benchmark by itself. The client speaks HTTP over plain sockets from one thread, so that on a small machine it
takes little from the servers that it measures; CPU is what the kernel charged to the server's process.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

QUESTION = [{"role": "user", "content": "What is 17 times 23? Think step by step."}]


@dataclass(frozen=True)
class Load:
    """What a load came to: seconds in all, each reply's milliseconds in ascending order, CPU of the server."""

    seconds: float
    latencies: Sequence[float]
    cpu_ms: float

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        return self.latencies[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


@contextlib.contextmanager
def gateway(upstream: str, *options: str) -> Iterator[tuple[str, int]]:
    """``fathom serve`` in front of an upstream: its base URL and its process."""
    command = [sys.executable, "-c", "from fathom.cli import main; main()", "serve", "--port", "0"]
    command += ["--model", f"openai:m@{upstream}", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1] + "/v1", process.pid
        finally:
            process.terminate()


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(url: str, pid: int, clients: int, requests: int, body: Mapping[str, object]) -> Load:
    """So many requests from so many clients at a time, each of which must succeed."""
    cpu, start = cpu_seconds(pid), time.perf_counter()
    seen = exchange(url, clients, [body] * requests)
    seconds = time.perf_counter() - start
    assert all(status == 200 for _, status in seen), sorted({status for _, status in seen})
    return Load(seconds, sorted(took * 1e3 for took, _ in seen), (cpu_seconds(pid) - cpu) * 1e3 / requests)


def exchange(
    url: str, clients: int, bodies: Sequence[Mapping[str, object]], rate: float | None = None
) -> list[tuple[float, int]]:
    """Send them, so many at a time at most, each on a connection of its own: every reply's seconds and status.

    With a ``rate`` they are sent at random moments (Poisson), so many a second on average, whoever has been answered,
    and the seconds count from those moments.
    """
    where, rng = urlsplit(url), random.Random(0)
    waiting = [json.dumps({"model": "m", "messages": QUESTION, **body}).encode() for body in reversed(bodies)]
    free: list[_Connection] = []
    seen: list[tuple[float, int]] = []
    opened, due = 0, time.perf_counter()
    with selectors.DefaultSelector() as selector:
        while len(seen) < len(bodies):
            while waiting and (free or opened < clients) and (rate is None or due <= time.perf_counter()):
                connection = free.pop() if free else None
                if connection is None:
                    connection, opened = _Connection(where), opened + 1
                    selector.register(connection.socket, selectors.EVENT_READ, connection)
                connection.send(waiting.pop(), time.perf_counter() if rate is None else due)
                due += rng.expovariate(rate) if rate else 0.0
            more = rate is not None and waiting
            for key, _ in selector.select(max(0.0, due - time.perf_counter()) if more else None):
                connection = key.data
                if (reply := connection.take()) is None:
                    continue
                seen.append(reply)
                if connection.closing:
                    selector.unregister(connection.socket)
                    connection.socket.close()
                    opened -= 1
                else:
                    free.append(connection)
        for key in list(selector.get_map().values()):
            key.data.socket.close()
    return seen


class _Connection:
    """A connection, and the reply that is coming on it."""

    def __init__(self, where: SplitResult) -> None:
        self.socket = socket.create_connection((where.hostname, where.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.closing = False
        self._head = (
            f"POST {where.path}/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer none\r\n"
            f"Content-Type: application/json\r\nContent-Length: "
        )
        self._received = bytearray()
        self._began = 0.0

    def send(self, body: bytes, began: float) -> None:
        self._received.clear()
        self._began = began
        self.socket.sendall(f"{self._head}{len(body)}\r\n\r\n".encode() + body)

    def take(self) -> tuple[float, int] | None:
        """Read; the reply's seconds and status once it is whole."""
        received = self.socket.recv(1 << 20)
        assert received, "the server closed the connection"
        self._received += received
        if not _whole(self._received):
            return None
        self.closing = b"\r\nconnection: close" in bytes(self._received).lower()
        return time.perf_counter() - self._began, int(self._received.split(b" ", 2)[1])


def _whole(reply: bytearray) -> bool:
    end = reply.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = bytes(reply[:end]).lower()
    if b"content-length:" in head:
        return len(reply) >= end + 4 + int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    return reply.endswith(b"0\r\n\r\n")
