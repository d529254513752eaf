"""Clients that leave at a random moment: how soon the upstream's work stops, and what is left behind.

    python benchmarks/gateway_leavers.py --times 1000

Reach: within 50 ms each time, with no task, socket or permit left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import sys
import time
from pathlib import Path

import aiohttp
from gateway_load import QUESTION

from fathom.serve.config import Config, ModelEntry
from fathom.serve.server import Server

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from upstreams import Upstream


async def leave(upstream: Upstream, url: str, rng: random.Random) -> float:
    """Seconds from leaving until the upstream has nothing to do."""
    strategy, streamed = rng.choice(["direct", "vote"]), rng.random() < 0.5
    body = {"model": "m", "messages": QUESTION, "stream": streamed, "fathom": {"strategy": strategy, "within": 30}}
    async with aiohttp.ClientSession() as session:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rng.uniform(0.001, 0.08)), session.post(url, json=body) as reply:
                await reply.read()
    left = time.perf_counter()
    while upstream.running and time.perf_counter() - left < 5:  # noqa: ASYNC110 (it runs in another thread)
        await asyncio.sleep(0.001)
    return time.perf_counter() - left


async def measure(times: int) -> None:
    with Upstream(delay=0.02, step=0.02, many=1) as upstream:
        config = Config(port=0, models={"m": ModelEntry(uri=f"openai:m@{upstream.url}")})
        async with Server(config) as server:
            rng, url = random.Random(0), server.url + "/v1/chat/completions"
            await leave(upstream, url, rng)
            before = len(os.listdir("/dev/fd")), len(asyncio.all_tasks())
            took = sorted([await leave(upstream, url, rng) for _ in range(times)])
            await asyncio.sleep(0.2)
            after = len(os.listdir("/dev/fd")), len(asyncio.all_tasks())
            gate = server.gateway.gate
    median, most = took[times // 2] * 1e3, took[-1] * 1e3
    print(f"{times} clients left; the upstream was idle after {median:.1f} ms at the median, at most {most:.1f} ms")
    print(f"descriptors and tasks before {before}, after {after}; running {gate.running}, waiting {gate.waiting}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=1000)
    asyncio.run(measure(parser.parse_args().times))


if __name__ == "__main__":
    main()
