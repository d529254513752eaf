"""HumanEval on the embedded model: one greedy answer against the best of 8, verified by the docstring's own examples.

    python benchmarks/human_eval.py --problems 40 --out runs/human_eval.jsonl

The hidden tests decide, in the sandbox; they are seen by neither strategy. An interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import IO, Any

from code_tasks import passes, problems, question
from intervals import paired, share
from resumable import kept

import fathom
from fathom.judges.docstring_examples import examples_in
from fathom.models import open_model

STRATEGIES = {"greedy": "direct", "best of 8": "best-of-n(width=8, judge=tests)"}
DEPTH = 320


async def solve(model: Any, problem: dict[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {"task": problem["task_id"], "examples": len(examples_in(problem["prompt"]))}
    for name, strategy in STRATEGIES.items():
        budget = fathom.Budget(depth=DEPTH)
        try:
            result = await fathom.asolve(model, question(problem), strategy=strategy, budget=budget)
        except fathom.NoAnswer as error:
            row[name] = {"passed": False, "tokens": error.receipt.spent.tokens if error.receipt else 0, "seconds": 0.0}
            continue
        spent = result.receipt.spent
        row[name] = {
            "passed": await passes(problem, result.answer),
            "verified": result.receipt.valid,
            "tokens": spent.tokens,
            "seconds": spent.seconds,
            "width": spent.width,
        }
    return row


def report(rows: list[dict[str, Any]]) -> None:
    n = len(rows)
    print(f"{n} problems, {sum(row['examples'] > 0 for row in rows)} of them with examples in the docstring\n")
    print(f"{'':12}{'hidden tests passed':>28}{'tokens/problem':>16}{'s/problem':>11}")
    for name in STRATEGIES:
        right = sum(row[name]["passed"] for row in rows)
        tokens, seconds = (sum(row[name][what] for row in rows) / n for what in ("tokens", "seconds"))
        print(f"{name:12}{share(right, n):>28}{tokens:16.0f}{seconds:11.1f}")
    mean, low, high = paired([float(row["best of 8"]["passed"]) - float(row["greedy"]["passed"]) for row in rows])
    print(f"\nbest of 8 against greedy: {mean:+.1%} [{low:+.1%}, {high:+.1%}], paired")


async def run(rows: list[dict[str, Any]], out: IO[str], many: int) -> None:
    model = await open_model("embedded", form="code")
    for problem in problems()[len(rows) : many]:
        row = await solve(model, problem)
        rows.append(row)
        print(json.dumps(row), file=out, flush=True)
        print(row["task"], {name: row[name]["passed"] for name in STRATEGIES}, flush=True)
    await model.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("runs/human_eval.jsonl"))
    options = parser.parse_args()
    rows = kept(options.out)
    with options.out.open("a") as out:
        asyncio.run(run(rows, out, options.problems))
    report(rows[: options.problems])


if __name__ == "__main__":
    main()
