"""How well deadlines are kept: 64 clients, deadlines from 0.1 to 10 s, one upstream reply in ten slow by 5 s.

    python benchmarks/gateway_deadlines.py --requests 300 --deadlines 0.1 0.5 1

Reach: 99 % end within 50 ms after their deadline, counted by the client from the moment it sent. Goodput is the share
that brought an answer. ``--faults`` has one reply in ten an error, a reset or a hang instead.
"""

from __future__ import annotations

import argparse

from engine_openai import upstream
from gateway_load import exchange, gateway


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--deadlines", type=float, nargs="+", default=[0.1, 0.25, 0.5, 1, 2, 5, 10])
    parser.add_argument("--faults", action="store_true")
    options = parser.parse_args()
    wrong = ["--fault-every", "10"] if options.faults else ["--slow-every", "10"]
    with upstream("--delay", "0.02", *wrong) as bare, gateway(bare) as (url, _):
        said = {"strategy": "vote", "width": 8}
        exchange(url, 4, [{"fathom": {**said, "within": 5}}] * 20)  # what a first request loads
        for deadline in options.deadlines:
            seen = exchange(url, options.clients, [{"fathom": {**said, "within": deadline}}] * options.requests)
            over = sorted(max(0.0, took - deadline) for took, _ in seen)
            good = sum(status == 200 for _, status in seen) / len(seen)
            print(
                f"deadline {deadline:5g} s: overshoot p50 {over[len(over) // 2] * 1e3:5.1f} ms, "
                f"p99 {over[len(over) * 99 // 100] * 1e3:5.1f} ms, goodput {good:.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
