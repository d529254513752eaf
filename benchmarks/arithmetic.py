"""Two-digit arithmetic on the embedded model: does width buy accuracy, and what does stopping early save?

    python benchmarks/arithmetic.py --questions 60 --out runs/arithmetic.jsonl

Every question is answered three times: one greedy chain, a fixed vote of 16, and an adaptive vote of at most 16 with
the same seed. The votes of the first 1, 4 and 16 samples of the fixed one give the curve. Questions are generated from
the seed; results are appended to the file question by question, and an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from pathlib import Path
from typing import IO, Any

from intervals import paired, share
from resumable import kept

import fathom
from fathom.answers import canonical
from fathom.judges.votes import Tally
from fathom.models import open_model
from fathom.reasoner import Reasoner

WIDTH = 16


def question(rng: random.Random) -> tuple[str, int]:
    a, b = rng.randint(10, 99), rng.randint(10, 99)
    sign, value = rng.choice([("+", a + b), ("-", a - b), ("*", a * b), ("*", a * b)])
    return f"What is {a} {sign} {b}?", value


async def measure(model: Reasoner, text: str, seed: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, strategy in (
        ("direct", "direct"),
        ("fixed", f"vote(width={WIDTH}, stop=never)"),
        ("adaptive", f"vote(width={WIDTH})"),
    ):
        result = await fathom.asolve(model, text, strategy=strategy, seed=seed)
        spent = result.receipt.spent
        row[name] = {"answer": result.answer, "tokens": spent.tokens, "seconds": spent.seconds, "width": spent.width}
        if name == "fixed":
            row["samples"] = [t.answer for t in sorted(result.trajectories, key=lambda t: t.id)]
            row["sample_tokens"] = [t.depth for t in sorted(result.trajectories, key=lambda t: t.id)]
    return row


def majority(answers: list[str | None]) -> str:
    tally = Tally()
    for answer in answers:
        meaning = canonical(answer) if answer is not None else None
        tally.add(meaning.key if meaning else None, parsed=bool(meaning and meaning.parsed))
    return tally.leader.key if tally.leader else ""


def report(rows: list[dict[str, Any]]) -> None:
    n = len(rows)
    keys = [canonical(str(row["value"])).key for row in rows]
    print(f"{n} questions, embedded model; 95 % intervals (Wilson), differences paired (bootstrap over questions)\n")
    print(f"{'':24}{'accuracy':>26}{'tokens/question':>17}{'s/question':>12}")
    for k in (1, 4, WIDTH):
        right = sum(majority(row["samples"][:k]) == key for row, key in zip(rows, keys, strict=True))
        tokens = sum(sum(row["sample_tokens"][:k]) for row in rows) / n
        seconds = f"{sum(row['fixed']['seconds'] for row in rows) / n:12.1f}" if k == WIDTH else f"{'':>12}"
        print(f"{f'majority of {k}':24}{share(right, n):>26}{tokens:17.0f}{seconds}")
    for name in ("direct", "adaptive"):
        right = sum(canonical(row[name]["answer"]).key == key for row, key in zip(rows, keys, strict=True))
        tokens, seconds = (sum(row[name][what] for row in rows) / n for what in ("tokens", "seconds"))
        print(f"{name:24}{share(right, n):>26}{tokens:17.0f}{seconds:12.1f}")
    saved = 1 - sum(row["adaptive"]["tokens"] for row in rows) / sum(row["fixed"]["tokens"] for row in rows)
    differences = [
        float(canonical(row["adaptive"]["answer"]).key == key) - float(canonical(row["fixed"]["answer"]).key == key)
        for row, key in zip(rows, keys, strict=True)
    ]
    mean, low, high = paired(differences)
    print(f"\nadaptive against fixed: {saved:.0%} fewer tokens; accuracy {mean:+.1%} [{low:+.1%}, {high:+.1%}]")


async def run(rows: list[dict[str, Any]], out: IO[str], questions: int, seed: int) -> None:
    rng = random.Random(seed)
    asked = [question(rng) for _ in range(questions)]
    model = await open_model("embedded")
    for index in range(len(rows), questions):
        text, value = asked[index]
        row = {"question": text, "value": value, **await measure(model, text, 1000 * index)}
        rows.append(row)
        print(json.dumps(row), file=out, flush=True)
        print(f"{index + 1}/{questions}  {text}  {value}  fixed {row['fixed']['answer']}", flush=True)
    await model.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--out", type=Path, default=Path("runs/arithmetic.jsonl"))
    options = parser.parse_args()
    rows = kept(options.out)
    with options.out.open("a") as out:
        asyncio.run(run(rows, out, options.questions, options.seed))
    report(rows[: options.questions])


if __name__ == "__main__":
    main()
