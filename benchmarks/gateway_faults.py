"""Every request ends, whatever its upstream does: one reply in four is an error, a hang, a reset, garbage or a stub.

    python benchmarks/gateway_faults.py --requests 10000

Told are the ends by status, the longest wait against the deadline of 1 s, and what is left behind afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path

import aiohttp
from gateway_load import QUESTION

from fathom.serve.config import Config, ModelEntry
from fathom.serve.server import Server

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from upstreams import Upstream

FAULTS = ("400", "429", "500", "hang", "reset", "malformed", "page", "half", "truncated", "empty choices")


async def measure(requests: int, clients: int) -> None:
    rng = random.Random(0)
    with Upstream(delay=0.005, fault=lambda number: rng.choice(FAULTS) if rng.random() < 0.25 else None) as upstream:
        config = Config(port=0, models={"m": ModelEntry(uri=f"openai:m@{upstream.url}")})
        async with Server(config) as server, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            permits, ends, longest = asyncio.Semaphore(clients), Counter[int](), 0.0

            async def one(number: int) -> None:
                nonlocal longest
                body = {"model": "m", "messages": QUESTION, "stream": number % 2 == 0}
                body["fathom"] = {"strategy": "vote(width=4)" if number % 3 else "direct", "within": 1.0}
                async with permits:
                    began = time.perf_counter()
                    async with session.post(server.url + "/v1/chat/completions", json=body) as reply:
                        await reply.read()
                    longest = max(longest, time.perf_counter() - began)
                    ends[reply.status] += 1

            await asyncio.gather(*map(one, range(requests // 10)))
            before = left()
            await asyncio.gather(*map(one, range(requests)))
            await asyncio.sleep(0.5)
            print(f"{requests} requests: {dict(sorted(ends.items()))}; the longest took {longest:.3f} s of 1 s")
            running = server.gateway.gate.running
            print(f"tasks, descriptors, MiB at most: before {before}, after {left()}; running {running}")


def left() -> tuple[int, int, int]:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return len(asyncio.all_tasks()), len(os.listdir("/dev/fd")), memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=32)
    options = parser.parse_args()
    asyncio.run(measure(options.requests, options.clients))


if __name__ == "__main__":
    main()
