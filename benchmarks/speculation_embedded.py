"""Speculation in the embedded engine, on a real model: plain decoding beside drafts from the text and from a model.

    python benchmarks/speculation_embedded.py [--model qwen2.5-coder-0.5b] [--draft NAME] [--tokens 96] [--rounds 2]

The tasks are a code edit, whose answer repeats most of the prompt, and a question whose answer repeats nothing. Every
round runs each task plainly, with prompt lookup (``draft=auto``) and, where ``--draft`` names a smaller model, with
that; each both under the control and with a fixed number of tokens always drafted; greedy, one text at a time. Printed
are the seconds of CPU time, which suffer less from whatever else the machine does than those of the
wall, tokens per pass of the target, and the share of drafted tokens that was accepted.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time

from fathom.language.download import obtain
from fathom.language.engines.base import Prompt, Request, Sampling
from fathom.language.engines.llama import LlamaEngine
from fathom.records import Message

EDIT = """Rename the function {old} to {new} and reply with the whole code, otherwise unchanged.
```python
def {old}(values, limit):
    total = 0
    for value in values:
        if value > limit:
            raise ValueError("value is larger than the limit")
        total += value
    return total / len(values)
```"""
QUESTION = "Why is the sky blue, and the sunset on day {old} of my journey red? Explain it in a few sentences."


async def run(engine: LlamaEngine, text: str, tokens: int) -> tuple[int, float, int, int]:
    """Tokens, CPU seconds, drafted tokens accepted and rejected; the prompt was read before."""
    prompt = Prompt((Message("user", text),))
    await engine.warm(prompt)
    begin = time.process_time()
    made = accepted = rejected = 0
    async with engine.generate(Request(prompt, max_tokens=tokens, sampling=Sampling(temperature=0.0))) as generation:
        async for piece in generation:
            made += piece.tokens
            accepted += piece.accepted_draft_tokens
            rejected += piece.rejected_draft_tokens
    return made, time.process_time() - begin, accepted, rejected


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b")
    parser.add_argument("--draft")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    path = obtain(asked.model)
    engines = {
        "plain": LlamaEngine(path, context=2048),
        "lookup": LlamaEngine(path, context=2048, draft="auto"),
        "lookup, always 4": LlamaEngine(path, context=2048, draft="auto", draft_length=4),
    }
    if asked.draft:
        smaller = obtain(asked.draft)
        engines["model"] = LlamaEngine(path, context=2048, draft=smaller)
        engines["model, always 3"] = LlamaEngine(path, context=2048, draft=smaller, draft_length=3)
    for engine in engines.values():
        pace = await engine.pace()
    print(", ".join(f"{w} rows: {s / pace.step(1):.2f} steps" for w, s in pace.step_seconds.items()))
    print(f"{'':26} {'tokens':>6} {'CPU s':>7} {'tok/CPU s':>9} {'tok/pass':>8} {'accepted':>8}")
    for _ in range(asked.rounds):
        old, new = (f"compute_{random.randrange(1000)}" for _ in range(2))
        for task, text in (("edit", EDIT.format(old=old, new=new)), ("question", QUESTION.format(old=old))):
            for name, engine in engines.items():
                made, seconds, accepted, rejected = await run(engine, text, asked.tokens)
                share = f"{accepted / (accepted + rejected):8.0%}" if accepted + rejected else f"{'-':>8}"
                passes = made - accepted
                print(
                    f"{task:9} {name:16} {made:6} {seconds:7.2f} {made / seconds:9.1f} {made / passes:8.2f} {share}",
                    flush=True,
                )
    for engine in engines.values():
        await engine.aclose()


if __name__ == "__main__":
    asyncio.run(main())
