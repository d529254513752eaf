"""How late are answers? ``solve`` to a deadline, against a 20 ms upstream and on the embedded model.

    python benchmarks/deadlines.py http        # votes without end against a local server
    python benchmarks/deadlines.py embedded

Overshoot is the time from the call to the answer, less the deadline; below zero where the run ended early.
"""

from __future__ import annotations

import argparse
import asyncio
import time

from engine_openai import upstream

import fathom
from fathom.language.engines.openai import OpenAIEngine
from fathom.language.model import LanguageModel
from fathom.models import open_model
from fathom.reasoner import Reasoner

DEADLINES = (0.3, 1.0, 3.0, 10.0)


async def overshoots(
    model: Reasoner, question: str, strategy: str, deadline: float, runs: int
) -> tuple[list[float], int]:
    late, answered = [], 0
    for seed in range(runs):
        began = time.monotonic()
        try:
            result = await fathom.asolve(model, question, strategy=strategy, within=deadline, seed=seed)
            answered += bool(result.answer)
        except (fathom.NoAnswer, fathom.UsageError):
            pass
        late.append(time.monotonic() - began - deadline)
    return sorted(late), answered


async def table(model: Reasoner, question: str, strategy: str, runs: int) -> None:
    await overshoots(model, question, strategy, DEADLINES[1], 1)  # loads what is loaded at first use
    print(f"{'deadline':>9}{'runs':>6}{'answered':>10}{'overshoot ms: p50':>20}{'p99':>8}{'max':>8}")
    for deadline in DEADLINES:
        late, answered = await overshoots(model, question, strategy, deadline, runs)
        p50, p99 = late[len(late) // 2], late[min(len(late) - 1, int(0.99 * len(late)))]
        figures = f"{p50 * 1e3:20.1f}{p99 * 1e3:8.1f}{late[-1] * 1e3:8.1f}"
        print(f"{deadline:8.1f}s{runs:6}{answered:10}{figures}", flush=True)


async def run(what: str, runs: int) -> None:
    if what == "embedded":
        model = await open_model("embedded")
        await table(model, "What is 47 * 83?", "vote(width=64, stop=never)", runs)
        await model.aclose()
        return
    with upstream("--delay", "0.02", "--many", "1") as url:
        engine = OpenAIEngine("m", url, max_concurrency=8)
        await table(LanguageModel(engine), "What is 47 * 83?", "vote(width=100000, wave=8, stop=never)", runs)
        await engine.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("http", "embedded"))
    parser.add_argument("--runs", type=int, default=50)
    options = parser.parse_args()
    asyncio.run(run(options.what, options.runs))


if __name__ == "__main__":
    main()
