"""How well deadlines are kept: 64 clients, deadlines from 0.1 to 10 s, one upstream reply in ten slow by 5 s.

    python benchmarks/gateway_deadlines.py --requests 300 --deadlines 0.1 0.5 1
    python benchmarks/gateway_deadlines.py --rates 50 100 200 400 800 --deadlines 0.25

Reach: 99 % end within 50 ms after their deadline, counted by the client from the moment it sent. Goodput is the share
that brought an answer. The clients send again at once, also after a 503: what they ask for beyond what two cores can do
shows as refusals. ``--rates`` has requests come at random moments instead, so many a second, whoever was answered: the
table tells from which load on the machine is what lacks. CPU is that of the gateway and of the client beside it, as
shares of one core. ``--faults`` has one reply in ten an error, a reset or a hang instead of a slow one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping

from engine_openai import upstream
from gateway_load import cpu_seconds, exchange, gateway

SAID = {"strategy": "vote", "width": 8}
MANY = 4096  # connections, where nobody waits for a reply


def row(url: str, pid: int, deadline: float, clients: int, requests: int, rate: float | None) -> str:
    """Send them, and tell how they ended."""
    body: Mapping[str, object] = {"fathom": {**SAID, "within": deadline}}
    begun, cpu, own = time.perf_counter(), cpu_seconds(pid), time.process_time()
    seen = exchange(url, clients, [body] * requests, rate)
    seconds = time.perf_counter() - begun
    shares = (cpu_seconds(pid) - cpu) / seconds, (time.process_time() - own) / seconds
    over = sorted(max(0.0, took - deadline) * 1e3 for took, _ in seen)
    good = sum(status == 200 for _, status in seen)
    return (
        f"{requests / seconds:5.0f} requests/s, deadline {deadline:5g} s: overshoot p50 {over[len(over) // 2]:5.1f}, "
        f"p99 {over[len(over) * 99 // 100]:5.1f} ms, goodput {good / requests:6.1%} ({good / seconds:4.0f}/s), "
        f"CPU gateway {shares[0]:.0%}, client {shares[1]:.0%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rates", type=float, nargs="+", help="requests a second, instead of clients that wait")
    parser.add_argument("--deadlines", type=float, nargs="+", default=[0.1, 0.25, 0.5, 1, 2, 5, 10])
    parser.add_argument("--faults", action="store_true")
    options = parser.parse_args()
    wrong = ["--fault-every", "10"] if options.faults else ["--slow-every", "10"]
    with upstream("--delay", "0.02", *wrong) as bare, gateway(bare) as (url, pid):
        exchange(url, 4, [{"fathom": {**SAID, "within": 5}}] * 20)  # what a first request loads
        for deadline in options.deadlines:
            for rate in options.rates or [None]:
                clients = options.clients if rate is None else MANY
                print(row(url, pid, deadline, clients, options.requests, rate), flush=True)


if __name__ == "__main__":
    main()
