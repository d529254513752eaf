"""Every request ends, whatever its upstream does: one reply in four is an error, a hang, a reset, garbage or a stub.

    python benchmarks/gateway_faults.py --requests 10000

Told are the ends by status, the longest waits against the deadline of 1 s, and what the gateway's process holds before
and after.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path

from gateway_load import exchange, gateway

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from upstreams import Upstream

FAULTS = ("400", "429", "500", "hang", "reset", "malformed", "page", "half", "truncated", "empty choices")


def body(number: int) -> dict[str, object]:
    """Searches and plain completions, streamed and whole."""
    strategy = "vote(width=4)" if number % 3 else "direct"
    return {"stream": number % 2 == 0, "fathom": {"strategy": strategy, "within": 1.0}}


def held(pid: int) -> str:
    """Descriptors and memory of a process."""
    memory = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return f"{len(os.listdir(f'/proc/{pid}/fd'))} descriptors, {int(memory[1]) >> 10 if memory else 0} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=32)
    options = parser.parse_args()
    rng = random.Random(0)
    with (
        Upstream(delay=0.005, fault=lambda number: rng.choice(FAULTS) if rng.random() < 0.25 else None) as upstream,
        gateway(upstream.url) as (url, pid),
    ):
        exchange(url, options.clients, [body(number) for number in range(options.requests // 10)])
        before = held(pid)
        seen = exchange(url, options.clients, [body(number) for number in range(options.requests)])
        time.sleep(0.5)
        ends = Counter(status for _, status in seen)
        took = sorted(seconds for seconds, _ in seen)
        print(f"{options.requests} requests: {dict(sorted(ends.items()))}")
        print(
            f"of a deadline of 1 s the longest took {took[-1]:.3f} s, 99.9 % at most {took[-1 - len(took) // 1000]:.3f}"
        )
        print(f"before: {before}; after: {held(pid)}")


if __name__ == "__main__":
    main()
