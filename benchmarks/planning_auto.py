"""``auto`` against the best fixed strategy chosen with hindsight, at deadlines from 0.3 to 30 s, on held-out questions.

    python benchmarks/planning_auto.py simulated --questions 200
    python benchmarks/planning_auto.py embedded --questions 40 --out runs/planning_auto.jsonl

Every question is answered under every deadline by every strategy, with the same seed. The best fixed strategy of a
deadline is chosen by its accuracy on these very questions, which is more than anybody knows beforehand. Results are
appended to the file row by row, and an interrupted run goes on where it was. ``--profile`` has auto plan from a file
that was made on other questions (fathom calibrate, another seed).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import simulated
from intervals import paired, share
from resumable import kept

import fathom
from fathom.answers import canonical
from fathom.models import open_model
from fathom.reasoner import Reasoner

DEADLINES = (0.3, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
FIXED = (
    "direct(depth=0)",
    "vote(width=8, depth=0)",
    "direct",
    "vote(width=4)",
    "vote(width=8)",
    "vote(width=16)",
    "vote(width=16, stop=never)",
)
MAJORITY = "vote(width=16, stop=never)"


def question(number: int, seed: int) -> tuple[str, str]:
    """An arithmetic question with its answer: easy ones, and ones that take a step or two."""
    rng = random.Random(f"{seed} {number}")
    a, b, c = rng.randint(10, 99), rng.randint(2, 99), rng.randint(10, 99)
    text = rng.choice((f"{a} + {b}", f"{a} - {b}", f"{a} * {rng.randint(2, 9)}", f"{a} * {b}", f"{a} * {b} - {c}"))
    value = eval(text, {"__builtins__": {}})  # of our own making
    return f"What is {text}?", str(value)


async def answered(model: Reasoner, text: str, strategy: str, seconds: float, seed: int) -> dict[str, Any]:
    began = time.monotonic()
    try:
        result = await fathom.asolve(model, text, strategy=strategy, within=seconds, seed=seed)
        told: dict[str, Any] = {
            "answer": result.answer,
            "tokens": result.receipt.spent.tokens,
            "ran": result.receipt.strategy,
        }
    except (fathom.NoAnswer, fathom.UsageError):
        told = {"answer": "", "tokens": 0, "ran": "none"}
    return {**told, "late": time.monotonic() - began - seconds}


async def embedded(
    rows: list[dict[str, Any]], out: Path, questions: int, seed: int, deadlines: Sequence[float], auto: str
) -> None:
    done = {(row["number"], row["seconds"], row["strategy"]) for row in rows}
    model = await open_model("embedded")
    with out.open("a") as file:
        for number in range(questions):
            text, value = question(number, seed)
            for seconds in deadlines:
                for name, strategy in (("auto", auto), *((s, s) for s in FIXED)):
                    if (number, seconds, name) in done:
                        continue
                    row = {"number": number, "seconds": seconds, "strategy": name}
                    row |= await answered(model, text, strategy, seconds, 1000 * number)
                    row["right"] = canonical(row["answer"]).key == canonical(value).key
                    rows.append(row)
                    print(json.dumps(row), file=file, flush=True)
            print(f"{number + 1}/{questions}  {text}", flush=True)
    await model.aclose()


async def simulate(questions: int, seed: int, deadlines: Sequence[float]) -> list[dict[str, Any]]:
    model, rows = simulated.model(), []
    await model.prepare()
    clock = asyncio.get_running_loop().time
    for number in range(seed * 10_000, seed * 10_000 + questions):
        for seconds in deadlines:
            for strategy in ("auto", *FIXED):
                began = clock()
                row: dict[str, Any] = {"number": number, "seconds": seconds, "strategy": strategy}
                try:
                    result = await simulated.solve(model, number, strategy, seconds, 1000 * number)
                    row |= {"right": result.answer == simulated.right(number), "tokens": result.receipt.spent.tokens}
                except (fathom.NoAnswer, fathom.UsageError):
                    row |= {"right": False, "tokens": 0}
                rows.append({**row, "late": clock() - began - seconds})
    return rows


def report(rows: list[dict[str, Any]]) -> None:
    numbers = sorted({row["number"] for row in rows})
    table = {(row["number"], row["seconds"], row["strategy"]): row for row in rows}
    print(f"{len(numbers)} questions; 95 % intervals: Wilson, differences paired (bootstrap over questions)\n")
    print(
        f"{'deadline':>9}  {'auto':26}{'best fixed, with hindsight':54}{'auto - best':>26}{'tokens':>14}{'late ms':>9}"
    )
    gaps = []
    for seconds in sorted({row["seconds"] for row in rows}):
        by = {s: [table[n, seconds, s] for n in numbers] for s in ("auto", *FIXED)}
        right = {s: [float(row["right"]) for row in found] for s, found in by.items()}
        best = max(FIXED, key=lambda s: (sum(right[s]), -sum(row["tokens"] for row in by[s])))
        mean, low, high = paired([a - b for a, b in zip(right["auto"], right[best], strict=True)])
        gaps.append(mean)
        tokens = [sum(row["tokens"] for row in by[s]) / len(numbers) for s in ("auto", best)]
        late = max(row["late"] for row in by["auto"]) * 1e3
        shares = [share(int(sum(right[s])), len(numbers)) for s in ("auto", best)]
        gap = f"{mean:+.1%} [{low:+.1%}, {high:+.1%}]"
        figures = f"{gap:>26}{tokens[0]:7.0f}{tokens[1]:7.0f}{late:9.1f}"
        print(f"{seconds:8.1f}s  {shares[0]:26}{best + ' ' + shares[1]:54}{figures}")
    print(f"\nauto less the best fixed one, mean over deadlines: {sum(gaps) / len(gaps):+.1%}")
    longest = max(row["seconds"] for row in rows)
    auto, fixed = ([table[n, longest, s] for n in numbers] for s in ("auto", MAJORITY))
    saved = 1 - sum(row["tokens"] for row in auto) / max(1, sum(row["tokens"] for row in fixed))
    mean, low, high = paired([float(a["right"]) - float(b["right"]) for a, b in zip(auto, fixed, strict=True)])
    print(f"against a majority of 16 at {longest:g} s: {saved:.0%} fewer tokens, {mean:+.1%} [{low:+.1%}, {high:+.1%}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("simulated", "embedded"))
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--deadlines", type=float, nargs="+", default=DEADLINES)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/planning_auto.jsonl"))
    options = parser.parse_args()
    if options.what == "simulated":
        report(simulated.run(simulate(options.questions, options.seed, options.deadlines)))
        return
    auto = "auto" if options.profile is None else f'auto(profile="{options.profile}")'
    rows = kept(options.out)
    asyncio.run(embedded(rows, options.out, options.questions, options.seed, options.deadlines, auto))
    report([row for row in rows if row["number"] < options.questions])


if __name__ == "__main__":
    main()
