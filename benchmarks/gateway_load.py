"""What the gateway's benchmarks share: a server in a process of its own, and a client that costs next to nothing.

Not a benchmark by itself. The client speaks HTTP over plain sockets from one thread, so that on a small machine it
takes little from the servers that it measures; CPU is what the kernel charged to the server's process.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

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


def exchange(url: str, clients: int, bodies: Sequence[Mapping[str, object]]) -> list[tuple[float, int]]:
    """Send them from so many clients at a time, each on a connection of its own: every reply's seconds and status."""
    where = urlsplit(url)
    head = (
        f"POST {where.path}/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer none\r\n"
        f"Content-Type: application/json\r\nContent-Length: "
    )
    waiting = [json.dumps({"model": "m", "messages": QUESTION, **body}).encode() for body in reversed(bodies)]
    selector = selectors.DefaultSelector()
    seen: list[tuple[float, int]] = []

    def send(connection: socket.socket) -> float:
        data = waiting.pop()
        connection.sendall(f"{head}{len(data)}\r\n\r\n".encode() + data)
        return time.perf_counter()

    def connect() -> None:
        connection = socket.create_connection((where.hostname, where.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ, [bytearray(), send(connection)])

    for _ in range(min(clients, len(bodies))):
        connect()
    while len(seen) < len(bodies):
        for key, _ in selector.select():
            connection, state = key.fileobj, key.data
            assert isinstance(connection, socket.socket)
            received = connection.recv(1 << 20)
            assert received, "the server closed the connection"
            state[0] += received
            if not _whole(state[0]):
                continue
            seen.append((time.perf_counter() - state[1], int(state[0].split(b" ", 2)[1])))
            if b"\r\nconnection: close" in bytes(state[0]).lower() or not waiting:
                selector.unregister(connection)
                connection.close()
                if waiting:
                    connect()
            else:
                state[0], state[1] = bytearray(), send(connection)
    selector.close()
    return seen


def _whole(reply: bytearray) -> bool:
    end = reply.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = bytes(reply[:end]).lower()
    if b"content-length:" in head:
        return len(reply) >= end + 4 + int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    return reply.endswith(b"0\r\n\r\n")
