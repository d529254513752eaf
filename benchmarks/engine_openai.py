"""What Fathom adds to an upstream's own time: n=64 against a local server that takes 20 ms, in wall and CPU time.

    python benchmarks/engine_openai.py             # time, beside a bare aiohttp client
    python benchmarks/engine_openai.py --faults    # 200 batches, one reply in eight going wrong: what is left behind?

The server is a process of its own. The rows are run in turn, so that a busy moment of the machine meets all of them.
Where the package its-hub is installed beside this one (in an environment made for the purpose), its self-consistency is
run too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp

import fathom
from fathom.language.engines.base import Finish, Prompt, Request
from fathom.language.engines.openai import OpenAIEngine
from fathom.language.model import LanguageModel
from fathom.records import Message

SERVER = Path(__file__).parents[1] / "tests" / "upstreams.py"
QUESTION = "What is 17 times 23? Think step by step."
N = 64


@contextlib.contextmanager
def upstream(*options: str) -> Iterator[str]:
    """The base URL of a server process."""
    command = [sys.executable, str(SERVER), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


async def engine_batch(engine: OpenAIEngine, *, stream: bool = False, deadline: float | None = None) -> tuple[int, int]:
    """One request for N choices: how many came, and how many of them failed."""
    request = Request(Prompt((Message("user", QUESTION),)), n=N, seed=1, stream=stream, deadline=deadline)
    ended = failed = 0
    async with engine.generate(request) as generation:
        async for piece in generation:
            ended += piece.finish is not None
            failed += piece.finish is Finish.FAILED
    return ended, failed


async def vote(engine: OpenAIEngine) -> None:
    """The whole way of ``fathom.solve``: prompt, leases, samples, answers by meaning, tally, receipt."""
    result = await fathom.asolve(LanguageModel(engine), QUESTION, strategy=fathom.Vote(width=N, stop="never"))
    assert result.receipt.spent.width == N


async def bare_batch(session: aiohttp.ClientSession, url: str) -> None:
    """What a client does at the very least, where the server ignores n."""

    async def one(seed: int) -> None:
        async with session.post(url + "/chat/completions", json=body(seed=seed)) as response:
            assert (await response.json())["choices"][0]["message"]["content"]

    await asyncio.gather(*(one(1 + k) for k in range(N)))


async def bare_stream(session: aiohttp.ClientSession, url: str) -> None:
    """The same, streamed: line by line, one dictionary per event."""

    async def one(seed: int) -> None:
        text = ""
        async with session.post(url + "/chat/completions", json=body(seed=seed, stream=True)) as response:
            async for line in response.content:
                if line.startswith(b"data: {") and (choices := json.loads(line[6:])["choices"]):
                    text += choices[0]["delta"].get("content", "")
        assert text

    await asyncio.gather(*(one(1 + k) for k in range(N)))


async def bare_single(session: aiohttp.ClientSession, url: str) -> None:
    """The one post that is enough where the server honours n."""
    async with session.post(url + "/chat/completions", json=body(seed=1, n=N)) as response:
        assert len((await response.json())["choices"]) == N


def body(**more: object) -> dict[str, object]:
    messages = [{"role": "user", "content": QUESTION}]
    return {"model": "m", "messages": messages, "max_tokens": 256, **more}


def its_hub(url: str, stack: contextlib.AsyncExitStack) -> dict[str, Callable[[], Awaitable[object]]]:
    """Rows for self-consistency by its-hub, as it comes and with unlimited concurrency, where it is installed."""
    try:
        from its_hub.core.algorithms.self_consistency import SelfConsistency
        from its_hub.core.lms.openai_lm import OpenAICompatibleLanguageModel
        from its_hub.core.orchestrator import LMOrchestrator
    except ImportError:
        return {}
    model = OpenAICompatibleLanguageModel(url, "none", "m", max_tokens=256)
    stack.push_async_callback(model.close_session, asyncio.get_running_loop())
    default, unlimited = SelfConsistency(), SelfConsistency(orchestrator=LMOrchestrator(-1))
    return {
        "its-hub self-consistency": lambda: default.ainfer(model, QUESTION, N),
        "its-hub, unlimited": lambda: unlimited.ainfer(model, QUESTION, N),
    }


async def timed(
    runs: int, rows: dict[str, Callable[[], Awaitable[object]]]
) -> dict[str, tuple[list[float], list[float]]]:
    """Wall and CPU milliseconds of each row, the rows in turn; the first two rounds warm up."""
    figures: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in rows}
    for run in range(runs + 2):
        for name, row in rows.items():
            wall, cpu = time.perf_counter(), time.process_time()
            await row()
            if run >= 2:
                figures[name][0].append((time.perf_counter() - wall) * 1e3)
                figures[name][1].append((time.process_time() - cpu) * 1e3)
            await asyncio.sleep(0.005)
    return figures


async def compare(runs: int, delay: float) -> None:
    options = ("--delay", str(delay))
    with upstream(*options) as honours, upstream(*options, "--many", "1") as ignores:
        many, single = OpenAIEngine("m", honours), OpenAIEngine("m", ignores)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session, contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(many.aclose)
            stack.push_async_callback(single.aclose)
            rows = {
                "bare aiohttp, 64 posts": lambda: bare_batch(session, ignores),
                "engine, n ignored": lambda: engine_batch(single),
                "fathom vote, n ignored": lambda: vote(single),
                **its_hub(ignores, stack),
                "bare aiohttp, 64 streams": lambda: bare_stream(session, ignores),
                "engine, n ignored, streamed": lambda: engine_batch(single, stream=True),
                "bare aiohttp, one post": lambda: bare_single(session, honours),
                "engine, n honoured": lambda: engine_batch(many),
                "fathom vote, n honoured": lambda: vote(many),
                "engine, n honoured, streamed": lambda: engine_batch(many, stream=True),
            }
            figures = await timed(runs, rows)
    print(f"n={N}, upstream delay {delay * 1e3:g} ms, medians of {runs} runs in turn")
    print(f"{'':30}{'wall ms':>9}{'CPU ms':>9}{'wall x':>9}{'CPU x':>9}{'wall / delay':>14}   x: the bare row above it")
    base = (1.0, 1.0)
    for name, figure in figures.items():
        wall, cpu = statistics.median(figure[0]), statistics.median(figure[1])
        if name.startswith("bare"):
            base = wall, cpu
        ratios = f"{wall / base[0]:9.2f}{cpu / base[1]:9.2f}{wall / (delay * 1e3):14.2f}"
        print(f"{name:30}{wall:9.1f}{cpu:9.1f}{ratios}")


async def endure(batches: int) -> None:
    """Batches of 64 with one reply in eight failing: every choice ends, and nothing is left."""
    with upstream("--delay", "0.005", "--many", "1", "--fault-every", "8") as url:
        engine = OpenAIEngine("m", url)
        await engine_batch(engine, deadline=time.monotonic() + 2)
        before = len(os.listdir("/dev/fd")), len(asyncio.all_tasks())
        ended = failed = answered = 0
        start = time.perf_counter()
        for _ in range(batches):
            came, lost = await engine_batch(engine, deadline=time.monotonic() + 0.5)
            ended, failed, answered = ended + came, failed + lost, answered + (came > lost)
        seconds = time.perf_counter() - start
        lane = await engine.upstream.lane()
        after = len(os.listdir("/dev/fd")), len(asyncio.all_tasks())
        held = lane.limit.in_flight
        await engine.aclose()
        closed = len(os.listdir("/dev/fd"))
    print(f"{batches} batches of {N}, one reply in eight 400, 500, hang or reset: {seconds:.1f} s")
    print(f"answered {answered} of {batches}; choices ended {ended} of {batches * N}, failed {failed}")
    print(
        f"descriptors and tasks before {before}, after {after}, descriptors once closed {closed}; permits held {held}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--delay", type=float, default=0.02, help="the upstream's, in seconds")
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--batches", type=int, default=200)
    options = parser.parse_args()
    asyncio.run(endure(options.batches) if options.faults else compare(options.runs, options.delay))


if __name__ == "__main__":
    main()
