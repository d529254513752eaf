"""A ladder against each of its models alone: how often right, and at what cost in time and arithmetic.

    python benchmarks/planning_ladder.py --questions 40 --within 30 --out runs/planning_ladder.jsonl

All are planned by ``auto`` under the same deadline, on the same generated questions, one after another. Rows are
appended to the file, and an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from statistics import fmean, median
from typing import Any

from ended import ended
from intervals import mean, paired
from planning_auto import question
from resumable import kept

from fathom.answers import canonical
from fathom.language.engines.llama import LlamaEngine
from fathom.language.model import LanguageModel
from fathom.models import open_model
from fathom.planning.ladder import Ladder
from fathom.reasoner import Reasoner

MODELS = ("qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
LADDER = "ladder"


async def answered(model: Reasoner, text: str, seconds: float, seed: int) -> dict[str, Any]:
    answer, receipt = await ended(model, text, within=seconds, seed=seed)
    spent = receipt.spent
    return {
        "answer": answer,
        "ran": receipt.strategy,
        "took": spent.seconds,
        "flops": spent.flops,
        "tokens": spent.tokens,
    }


async def run(rows: list[dict[str, Any]], out: Path, names: list[str], questions: int, seconds: float) -> None:
    done = {(row["number"], row["who"]) for row in rows}
    models = [await open_model(name) for name in names]
    engines = [m.engine for m in models if isinstance(m, LanguageModel) and isinstance(m.engine, LlamaEngine)]
    contenders = {LADDER: Ladder(models), **dict(zip(names, models, strict=True))}
    with out.open("a") as file:
        for number in range(questions):
            text, value = question(number, seed=11)
            for who, model in contenders.items():
                if (number, who) in done:
                    continue
                for engine in engines:
                    await engine.forget_texts()
                row = {"number": number, "who": who, **await answered(model, text, seconds, 1000 * number)}
                row["right"] = canonical(row["answer"]).key == canonical(value).key
                rows.append(row)
                print(json.dumps(row), file=file, flush=True)
            print(f"{number + 1}/{questions}  {text}", flush=True)
    await contenders[LADDER].aclose()


def report(rows: list[dict[str, Any]], names: list[str], seconds: float) -> None:
    by = {who: {row["number"]: row for row in rows if row["who"] == who} for who in (LADDER, *names)}
    numbers = sorted(set.intersection(*(set(found) for found in by.values())))
    print(f"\n{len(numbers)} questions, at most {seconds:g} s each; 95 % intervals, differences paired\n")
    print(f"{'':24}{'right':>26}{'s (mean, median)':>20}{'TFLOPs':>9}{'tokens':>8}   {LADDER} less this one")
    for who, found in by.items():
        each = [found[number] for number in numbers]
        took = [row["took"] for row in each]
        gain, low, high = paired([by[LADDER][n]["right"] - found[n]["right"] for n in numbers])
        figures = f"{fmean(took):12.1f}{median(took):8.1f}{fmean(row['flops'] for row in each) / 1e12:9.2f}"
        apart = "" if who == LADDER else f"   {gain:+.1%} [{low:+.1%}, {high:+.1%}]"
        tokens = fmean(row["tokens"] for row in each)
        print(f"{who:24}{mean([float(row['right']) for row in each]):>26}{figures}{tokens:8.0f}{apart}")
    settled = [row for row in by[LADDER].values() if row["number"] in numbers and " | " not in row["ran"]]
    right = sum(row["right"] for row in settled)
    print(f"\nsettled by the first model asked: {len(settled)} of {len(numbers)}, of these right: {right}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--within", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=Path("runs/planning_ladder.jsonl"))
    options = parser.parse_args()
    rows = kept(options.out)
    asyncio.run(run(rows, options.out, options.models, options.questions, options.within))
    report([row for row in rows if row["number"] < options.questions], options.models, options.within)


if __name__ == "__main__":
    main()
