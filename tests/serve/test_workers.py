"""Several workers behind one port, as the command starts them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from house import ASKED, Held

pytestmark = pytest.mark.slow

FILE = """
host = "127.0.0.1"
port = 0
workers = 2

[models.m]
uri = "openai:m@{url}"

[[keys]]
name = "alice"
sha256 = "{alice}"

[[keys]]
name = "bob"
sha256 = "{bob}"
requests_per_minute = 20
"""


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@contextmanager
def served(directory: Path, upstream: Held) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command with two workers: its process, and its URL."""
    file = directory / "gateway.toml"
    file.write_text(FILE.format(url=upstream.url, alice=digest("a"), bob=digest("b")))
    command = [sys.executable, "-c", "from fathom.cli import main; main()", "serve", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().split()[-1] + "/v1"
        finally:
            process.terminate()
            process.wait(120)


def workers(process: subprocess.Popen[str]) -> set[int]:
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process.pid and b"spawn_main" in (entry / "cmdline").read_bytes():
                found.add(int(entry.name))
    return found


def ask(url: str, key: str = "a") -> str | None:
    """One question on a connection of its own: a worker is drawn for each."""
    with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client:
        reply = client.chat.completions.create(model="m", messages=ASKED)  # type: ignore[call-overload]
    content: str | None = reply.choices[0].message.content
    return content


def metrics(url: str) -> str:
    """As any worker tells them."""
    with openai.OpenAI(base_url=url.removesuffix("/v1"), api_key="a") as client:
        return client.get("/metrics", cast_to=str)


def counted(url: str) -> int:
    """Answered requests."""
    found = re.findall(r'fathom_requests_total\{path="/v1/chat/c\S+",status="200"\} (\S+)', metrics(url))
    return sum(int(float(n)) for n in found)


def test_how_things_stand_is_told_of_all_workers(tmp_path: Path, upstream: Held) -> None:
    upstream.fault = lambda number: "held"
    with served(tmp_path, upstream) as (_, url):
        asked = [threading.Thread(target=ask, args=(url,)) for _ in range(8)]
        for thread in asked:
            thread.start()
        while "fathom_trajectories_running 8.0" not in metrics(url):
            assert any(thread.is_alive() for thread in asked)
            time.sleep(0.05)
        upstream.freed = True
        for thread in asked:
            thread.join()
        while "fathom_trajectories_running 0.0" not in (told := metrics(url)):
            time.sleep(0.05)
        assert 'fathom_breaker_open{model="m"} 0.0' in told


def test_limits_and_counts_are_of_all_workers_and_one_that_falls_is_started_again(
    tmp_path: Path, upstream: Held
) -> None:
    with served(tmp_path, upstream) as (process, url):
        first = workers(process)
        assert len(first) == 2

        let_in, began = 0, time.monotonic()
        for _ in range(40):
            try:
                ask(url, "b")
                let_in += 1
            except openai.RateLimitError:
                pass
        # 20 at once, one every 3 seconds, and one that may lie with a worker
        assert 19 <= let_in <= 21 + (time.monotonic() - began) / 3
        while counted(url) < let_in:  # a reply is there before it is counted
            time.sleep(0.05)
        assert counted(url) == let_in

        os.kill(min(first), signal.SIGKILL)
        until = time.monotonic() + 120
        while len(workers(process) - {min(first)}) < 2:
            assert time.monotonic() < until, "no worker was started in its place"
            time.sleep(0.05)
        assert process.poll() is None
        assert ask(url)


def test_sigterm_lets_all_workers_end_what_they_do(tmp_path: Path, upstream: Held) -> None:
    with served(tmp_path, upstream) as (process, url):
        ask(url)
        upstream.fault = lambda number: "held"
        answers: list[str | None] = []
        threads = [threading.Thread(target=lambda: answers.append(ask(url))) for _ in range(6)]
        for thread in threads:
            thread.start()
        while upstream.running < 6:
            assert all(thread.is_alive() for thread in threads)
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)  # in which the workers hear of it
        upstream.freed = True
        for thread in threads:
            thread.join()
        assert len([answer for answer in answers if answer]) == 6
        assert process.wait(120) == 0
        assert not workers(process)
