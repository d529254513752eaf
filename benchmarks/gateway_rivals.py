"""Requests a second and CPU a request of three gateways in front of the same 20 ms upstream, which honours n.

    python benchmarks/gateway_rivals.py

Fathom and its-hub vote with a budget of 8, optillm takes the best of 3; the rows of one number of clients are run in
turn, each for a few seconds, so that all of it takes less than four minutes. The rivals are installed apart, each in an
environment of its own, once:

    python -m venv runs/rivals/its && runs/rivals/its/bin/pip install 'its-hub[iaas]==1.2.0'
    python -m venv runs/rivals/optillm && runs/rivals/optillm/bin/pip install 'optillm==0.4.0'

One that is not there is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from engine_openai import upstream
from gateway_load import QUESTION, gateway, load


@contextlib.contextmanager
def server(command: list[str], port: int) -> Iterator[tuple[str, int]]:
    """A rival's process, once it listens."""
    environment = {**os.environ, "OPENAI_API_KEY": "none"}
    log = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=log, stderr=log, env=environment) as process:
        try:
            for _ in range(900):
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                if process.poll() is not None:
                    raise SystemExit(f"{' '.join(command)} ended before it listened; run it by hand to see why")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/v1", process.pid
        finally:
            process.terminate()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def its_hub(venv: Path, url: str) -> Iterator[tuple[str, int]]:
    port = free_port()
    with server([str(venv / "bin" / "its-iaas"), "--port", str(port)], port) as (base, pid):
        said: dict[str, object] = {
            "endpoint": url,
            "api_key": "none",
            "model": "m",
            "alg": "self-consistency",
            "budget": 8,
        }
        said["regex_patterns"] = [r"(\d+)"]
        request = urllib.request.Request(
            base.removesuffix("/v1") + "/configure", json.dumps(said).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request).read()
        yield base, pid


@contextlib.contextmanager
def optillm(venv: Path, url: str) -> Iterator[tuple[str, int]]:
    port = free_port()
    command = [str(venv / "bin" / "optillm"), "--port", str(port), "--base-url", url, "--approach", "bon"]
    with server([*command, "--best-of-n", "3", "--model", "m"], port) as found:
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environments", type=Path, default=Path("runs/rivals"), help="where its and optillm are")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement, about")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(upstream("--delay", "0.02"))
        rows = {"fathom vote 8": (*stack.enter_context(gateway(url)), {"fathom": {"strategy": "vote(width=8)"}})}
        for name, folder, start in (("its-hub vote 8", "its", its_hub), ("optillm best of 3", "optillm", optillm)):
            venv = options.environments / folder
            if not venv.is_dir():
                print(f"{name}: left out, there is no {venv}")
                continue
            rows[name] = (*stack.enter_context(start(venv, url)), {"budget": 8} if start is its_hub else {})
        print(f"{len(QUESTION[0]['content'])} characters a question, upstream delay 20 ms")
        for clients in (1, 16, 64):
            for name, (base, pid, body) in rows.items():
                warm = load(base, pid, clients, 2 * clients + 8, body)
                seen = load(base, pid, clients, max(2 * clients, int(options.seconds * warm.rate)), body)
                print(
                    f"{clients:3} clients  {name:18} {seen.rate:7.0f}/s  p50 {seen.percentile(0.5):7.1f} ms  "
                    f"p99 {seen.percentile(0.99):7.1f} ms  {seen.cpu_ms:6.2f} ms CPU a request",
                    flush=True,
                )


if __name__ == "__main__":
    main()
