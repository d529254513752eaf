"""How well deadlines are kept: 64 clients, deadlines from 0.1 to 10 s, one upstream reply in ten an error, a reset or a
hang.

    python benchmarks/gateway_deadlines.py --requests 300 --deadlines 0.1 0.5 1

Reach: 99 % end within 50 ms after their deadline. Goodput is the share that brought an answer.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import aiohttp
from engine_openai import upstream
from gateway_load import QUESTION

from fathom.serve.config import Config, ModelEntry
from fathom.serve.server import Server


async def one(session: aiohttp.ClientSession, url: str, deadline: float) -> tuple[float, bool]:
    """Seconds after the deadline at which the reply was whole, negative before it, and whether it had an answer."""
    body = {"model": "m", "messages": QUESTION, "fathom": {"strategy": "vote", "width": 8, "within": deadline}}
    began = time.perf_counter()
    async with session.post(url + "/v1/chat/completions", json=body) as reply:
        await reply.read()
    return time.perf_counter() - began - deadline, reply.status == 200


async def measure(behind: str, deadlines: list[float], requests: int, clients: int) -> None:
    config = Config(port=0, models={"m": ModelEntry(uri=f"openai:m@{behind}")})
    async with Server(config) as server, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for deadline in deadlines:
            permits = asyncio.Semaphore(clients)

            async def turn(deadline: float = deadline, permits: asyncio.Semaphore = permits) -> tuple[float, bool]:
                async with permits:
                    return await one(session, server.url, deadline)

            seen = await asyncio.gather(*(turn() for _ in range(requests)))
            over = sorted(max(0.0, overshoot) for overshoot, _ in seen)
            good = sum(answered for _, answered in seen) / len(seen)
            print(
                f"deadline {deadline:5g} s: overshoot p50 {over[len(over) // 2] * 1e3:5.1f} ms, "
                f"p99 {over[len(over) * 99 // 100] * 1e3:5.1f} ms, goodput {good:.1%}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--deadlines", type=float, nargs="+", default=[0.1, 0.25, 0.5, 1, 2, 5, 10])
    options = parser.parse_args()
    with upstream("--delay", "0.02", "--fault-every", "10") as url:
        asyncio.run(measure(url, options.deadlines, options.requests, options.clients))


if __name__ == "__main__":
    main()
