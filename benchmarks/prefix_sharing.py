"""What forking the cache saves: tokens read in a beam search, and the time that a prompt on disk saves.

    python benchmarks/prefix_sharing.py [--model smollm2-135m] [--steps 10] [--tokens 16]

A beam of 4 lines, each continued 4 times a step. Every step is one request a line with n = 4, which goes on from the
line by its token ids. Beside it stands what the same search reads where each continuation is a request of its own that
shares nothing (prompt and line so far, 16 times a step), and where the prompt alone is shared. Tokens are counted, not
timed: the count is the same on every machine. Then a long system prompt is read, and loaded from disk after a restart.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
import time
from pathlib import Path

from fathom.language.download import obtain
from fathom.language.engines.base import Prompt, Request, Sampling, Span
from fathom.language.engines.llama import LlamaEngine
from fathom.records import Message

WIDTH = 4
STORY = " ".join(
    "The clerk counts the apples and the pears of every cart, twice, and writes both down." for _ in range(8)
)


async def beam(engine: LlamaEngine, steps: int, tokens: int) -> None:
    question = Message("user", f"Question {random.randrange(10**9)}: {STORY} How many are there? Think step by step.")
    prompt = await engine.count(Prompt((question,)))
    lines: list[tuple[int, ...]] = [()]
    read = reused = apart = shared = 0
    sampling = Sampling(temperature=1.0)
    for _ in range(steps):
        grown: list[tuple[int, ...]] = []
        for line in lines:
            begun = Prompt((question,), (Span("", line),) if line else ())
            ids: list[list[int]] = [[] for _ in range(WIDTH)]
            asked = Request(begun, n=WIDTH, max_tokens=tokens, sampling=sampling, seed=random.randrange(10**6))
            async with engine.generate(asked) as generation:
                async for piece in generation:
                    ids[piece.index] += piece.token_ids
                    read += piece.prompt_tokens
                    reused += piece.reused_tokens
            apart += WIDTH * (prompt + len(line))
            shared += WIDTH * (len(line) + 1)
            grown += [line + tuple(new) for new in ids]
        lines = random.sample(grown, WIDTH)
    shared += prompt
    print(f"beam {WIDTH} x {WIDTH}, {steps} steps of {tokens} tokens, prompt of {prompt} tokens")
    print(f"{'':38} {'tokens read':>11}")
    print(f"{'forked from the cache':38} {read:11} ({reused} reused)")
    for name, count in (("prompt shared, lines read again", shared), ("each continuation read from the start", apart)):
        print(f"{name:38} {count:11}   {count / max(1, read):.1f} times as many")


async def restart(path: Path) -> None:
    opening = Prompt((Message("system", f"{STORY} Your number is {random.randrange(10**9)}."),))
    with tempfile.TemporaryDirectory() as cache:
        os.environ["FATHOM_CACHE"] = cache
        for what in ("read, and written to disk", "loaded after a restart"):
            engine = LlamaEngine(path, context=1024, disk="64MiB")
            wall, cpu = time.perf_counter(), time.process_time()
            await engine.warm(opening)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            length = await engine.count(opening)
            print(
                f"system prompt of {length} tokens, {what:26} {1000 * wall:8.0f} ms, {1000 * cpu:8.0f} ms of CPU time"
            )
            await engine.aclose()
        size = sum(file.stat().st_size for file in (Path(cache) / "prompts").iterdir())
        print(f"on disk: {size / 1e6:.1f} MB")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=16)
    asked = parser.parse_args()
    path = obtain(asked.model)
    engine = LlamaEngine(path, context=8192)
    await beam(engine, asked.steps, asked.tokens)
    await engine.aclose()
    await restart(path)


if __name__ == "__main__":
    asyncio.run(main())
