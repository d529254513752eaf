"""The embedded engine beside the library's own server, in one run: width, and what sharing a prompt is worth.

    python benchmarks/engine_llama.py [--model qwen2.5-coder-0.5b] [--tokens 48] [--widths 1,2,4,8,16]

Every row gives generated tokens per second of wall time and per second of CPU time. The server is driven directly, by
one request with n = width, which is the best it can do. Then n samples of a prompt of about 170 tokens are drawn: by
one request, one after another with the prompt in the cache, and by n requests at once that share nothing. Wall times
suffer from whatever else the machine does; CPU times less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fathom.language.download import obtain
from fathom.language.engines.base import Prompt, Request, Sampling
from fathom.language.engines.llama import LlamaEngine
from fathom.language.engines.llama_c import import_library
from fathom.records import Message

SAMPLING = Sampling(temperature=0.5)


@dataclass(frozen=True)
class Row:
    what: str
    tokens: int
    wall: float
    cpu: float
    read: int

    @property
    def per_cpu(self) -> float:
        return self.tokens / self.cpu

    def __str__(self) -> str:
        speeds = f"{self.tokens / self.wall:8.1f} {self.per_cpu:8.1f}"
        return f"{self.what:44} {self.tokens:6} {self.read:6} {self.wall:8.2f} {self.cpu:8.2f} {speeds}"


HEAD = f"{'':44} {'tokens':>6} {'read':>6} {'wall s':>8} {'CPU s':>8} {'tok/s':>8} {'tok/CPU s':>8}"


async def timed(what: str, run: Awaitable[tuple[int, int]]) -> Row:
    wall, cpu = time.perf_counter(), time.process_time()
    tokens, read = await run
    row = Row(what, tokens, time.perf_counter() - wall, time.process_time() - cpu, read)
    print(row, flush=True)
    return row


def count_up() -> Prompt:
    """One that was never read before, with a long answer."""
    begin = random.randrange(10**6)
    told = f"Count from {begin} to {begin + 10**6}, one number after another, separated by commas."
    return Prompt((Message("system", "Do as you are told, without a word more."), Message("user", told)))


def question() -> Prompt:
    """Some 170 tokens, of which the first ones already were never read before."""
    story = " ".join(random.choice(("apples", "pears", "boxes", "buyers", "carts")) for _ in range(100))
    numbers = f"{random.randrange(100, 999)} and {random.randrange(100, 999)}"
    told = (
        f"Given {numbers}. Solve the problem step by step, and check every step. {story}. Write a long story about it."
    )
    return Prompt((Message("user", told),))


async def sample(engine: LlamaEngine, prompt: Prompt, n: int, tokens: int, seed: int = 0) -> tuple[int, int]:
    made = read = 0
    request = Request(prompt, n=n, max_tokens=tokens, sampling=SAMPLING, seed=seed)
    async with engine.generate(request) as generation:
        async for piece in generation:
            made += piece.tokens
            read += piece.prompt_tokens
    return made, read


def serve(path: Path, width: int, threads: int) -> Any:
    xllamacpp = import_library()
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_parallel, parameters.n_ctx, parameters.kv_unified = width + 1, 16_384, True
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.verbosity, parameters.warmup, parameters.cache_ram_mib = -1, False, 0
    return xllamacpp.Server(parameters)


async def sample_server(server: Any, prompt: Prompt, n: int, tokens: int) -> tuple[int, int]:
    body = {
        "messages": [{"role": m.role, "content": m.content} for m in prompt.messages],
        "n": n,
        "max_tokens": tokens,
        "temperature": 0.5,
        "top_p": 0.95,
        "top_k": 40,
        "min_p": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    made = 0
    read = 0

    def heard(text: str | bytes) -> None:
        nonlocal made, read
        for chunk in _chunks(text):
            made += sum(bool(choice["delta"].get("content")) for choice in chunk.get("choices", ()))
            read = max(read, (chunk.get("timings") or {}).get("prompt_n", 0))

    await asyncio.to_thread(server.handle_chat_completions, json.dumps(body), heard)
    return made, read


def _chunks(text: str | bytes) -> list[dict[str, Any]]:
    line = (text if isinstance(text, str) else text.decode()).strip().removeprefix("data: ")
    found = json.loads(line) if line and line != "[DONE]" else []
    return found if isinstance(found, list) else [found]


async def widths(path: Path, engine: LlamaEngine, chosen: list[int], tokens: int, threads: int) -> None:
    print(f"\nOne prompt, n = width, {tokens} tokens each\n{HEAD}")
    server = serve(path, max(chosen), threads)
    for width in chosen:
        ours = await timed(f"width {width:2}, this engine", sample(engine, count_up(), width, tokens))
        theirs = await timed(f"width {width:2}, xllamacpp.Server", sample_server(server, count_up(), width, tokens))
        print(f"{'':44} this engine / server, tokens per CPU second: {ours.per_cpu / theirs.per_cpu:.2f}")


async def prefix(engine: LlamaEngine, n: int, tokens: int) -> None:
    prompt = question()
    length = await engine.count(prompt)
    print(f"\n{n} samples of one prompt of {length} tokens, {tokens} tokens each\n{HEAD}")
    shared = await timed(f"one request, n = {n}", sample(engine, prompt, n, tokens))

    async def one_by_one() -> tuple[int, int]:
        done = [await sample(engine, prompt, 1, tokens, seed) for seed in range(n)]
        return sum(made for made, _ in done), sum(read for _, read in done)

    warm = await timed("one after another, warm prompt", one_by_one())

    async def unrelated() -> tuple[int, int]:
        done = await asyncio.gather(*(sample(engine, question(), 1, tokens, seed) for seed in range(n)))
        return sum(made for made, _ in done), sum(read for _, read in done)

    separate = await timed(f"{n} requests at once that share nothing", unrelated())
    for row in (warm, separate):
        print(f"{'':44} tokens per CPU second: {shared.per_cpu / row.per_cpu:.2f}x {row.what}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--widths", default="1,2,4,8,16")
    parser.add_argument("--samples", type=int, default=16)
    asked = parser.parse_args()
    path = obtain(asked.model)
    engine = LlamaEngine(path)
    pace = await engine.pace()
    steps = ", ".join(f"{width}: {1000 * seconds:.0f} ms" for width, seconds in pace.step_seconds.items())
    print(f"{engine.traits.model}, {engine.traits.version}, {os.cpu_count()} cores, {engine.threads} threads")
    print(f"reads {1 / pace.read_seconds:.0f} tokens/s; step {steps}; room {engine.traits.room}")
    chosen = [int(width) for width in asked.widths.split(",")]
    await widths(path, engine, chosen, asked.tokens, engine.threads)
    await prefix(engine, asked.samples, asked.tokens)
    await engine.aclose()


if __name__ == "__main__":
    asyncio.run(main())
