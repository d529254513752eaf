"""``auto`` against the best fixed strategy chosen with hindsight, at deadlines from 0.3 to 30 s, on held-out questions.

    python benchmarks/planning_auto.py simulated --questions 200
    python benchmarks/planning_auto.py embedded --questions 40 --out runs/planning_auto.jsonl
    python benchmarks/planning_auto.py recorded --questions 60        # three sweeps' chains, in virtual time
    python benchmarks/planning_auto.py questions --questions 40 --seed 8 --out runs/other.jsonl

Every question is answered under every deadline by every strategy, with the same seed. The best fixed strategy of a
deadline is chosen by its accuracy on these very questions, which is more than anybody knows beforehand. Results are
appended to the file row by row, and an interrupted run goes on where it was. A fixed strategy that came to its own end
in half of a deadline would do the same under a longer one, and is not run again. No run finds its question read by the
one before: what the engine keeps of earlier texts is forgotten before each, but for the instructions. ``--profile`` has
auto plan from a file that was made on other questions: ``questions`` writes some of another seed, for ``fathom
calibrate``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise, product
from operator import eq
from pathlib import Path
from statistics import fmean
from typing import Any

import simulated
from intervals import mean, paired
from recorded import SWEEPS, Recorded
from resumable import kept

import fathom
import fathom.api  # so that the first run does not wait for it
from fathom.answers import canonical
from fathom.language.engines.llama import LlamaEngine
from fathom.language.model import LanguageModel
from fathom.models import open_model
from fathom.reasoner import Reasoner
from fathom.search import STRATEGIES

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
            "stopped": str(result.receipt.stopped),
        }
    except (fathom.NoAnswer, fathom.UsageError):
        told = {"answer": "", "tokens": 0, "ran": "none", "stopped": "none"}
    took = time.monotonic() - began
    return {**told, "took": took, "late": took - seconds}


def in_good_time(row: dict[str, Any]) -> bool:
    """Did the run come to its own end, so early that a longer deadline would have changed nothing?"""
    return row["stopped"] not in ("deadline", "none") and row["took"] < row["seconds"] / 2


async def forgetful() -> tuple[LanguageModel, LlamaEngine]:
    """The embedded model, and its engine, which can be made to forget what it has read."""
    model = await open_model("embedded")
    assert isinstance(model, LanguageModel)
    assert isinstance(model.engine, LlamaEngine)
    return model, model.engine


async def embedded(
    rows: list[dict[str, Any]], out: Path, questions: int, seed: int, deadlines: Sequence[float], auto: tuple[str, str]
) -> None:
    done = {(row["number"], row["seconds"], row["strategy"]): row for row in rows}
    fixed = [(strategy, strategy) for strategy in FIXED]
    model, engine = await forgetful()
    STRATEGIES.load()
    with out.open("a") as file:
        for number in range(questions):
            text, value = question(number, seed)
            for (before, seconds), (name, strategy) in product(pairwise((0, *deadlines)), (auto, *fixed)):
                if (number, seconds, name) in done:
                    continue
                shorter = done.get((number, before, name))
                if name in FIXED and shorter and in_good_time(shorter):
                    row = {**shorter, "seconds": seconds, "late": shorter["took"] - seconds}
                else:
                    await engine.forget_texts()
                    row = {"number": number, "seconds": seconds, "strategy": name}
                    row |= await answered(model, text, strategy, seconds, 1000 * number)
                    row["right"] = canonical(row["answer"]).key == canonical(value).key
                done[number, seconds, name] = row
                rows.append(row)
                print(json.dumps(row), file=file, flush=True)
            print(f"{number + 1}/{questions}  {text}", flush=True)
    await model.aclose()


async def simulate(questions: int, seed: int, deadlines: Sequence[float]) -> list[dict[str, Any]]:
    model, rows = simulated.model(), []
    await model.prepare()
    for number in range(seed * 10_000, seed * 10_000 + questions):
        for seconds, strategy in product(deadlines, ("auto", *FIXED)):
            is_right = partial(eq, simulated.right(number))
            row = await virtually(model, number, strategy, seconds, 1000 * number, is_right)
            rows.append({"number": number, "seconds": seconds, "strategy": strategy, **row})
    return rows


async def virtually(
    model: LanguageModel, number: int, strategy: str, seconds: float, seed: int, is_right: Callable[[str], bool]
) -> dict[str, Any]:
    """A question asked in virtual time, which the loop's clock tells."""
    clock = asyncio.get_running_loop().time
    began = clock()
    try:
        result = await simulated.solve(model, number, strategy, seconds, seed)
        told: dict[str, Any] = {"right": is_right(result.answer), "tokens": result.receipt.spent.tokens}
    except (fathom.NoAnswer, fathom.UsageError):
        told = {"right": False, "tokens": 0}
    return {**told, "late": clock() - began - seconds}


async def recorded(
    said: Recorded, questions: int, seeds: Sequence[int], deadlines: Sequence[float], auto: tuple[str, str]
) -> list[dict[str, Any]]:
    """Each question is asked with every seed; what is told of it are means."""
    model, rows = said.model(), []
    await model.prepare()
    fixed = [(strategy, strategy) for strategy in FIXED]
    for q, seconds, (name, strategy) in product(range(questions), deadlines, (auto, *fixed)):
        runs = []
        for seed in seeds:
            said.begin(q, seed)
            runs.append(await virtually(model, q, strategy, seconds, seed, partial(said.is_right, q)))
        means = {what: fmean(run[what] for run in runs) for what in ("right", "tokens")}
        late = max(run["late"] for run in runs)
        rows.append({"number": q, "seconds": seconds, "strategy": name, **means, "late": late})
    return rows


def report(rows: list[dict[str, Any]], auto: str = "auto") -> None:
    numbers = sorted({row["number"] for row in rows})
    table = {(row["number"], row["seconds"], row["strategy"]): row for row in rows}
    print(
        f"{len(numbers)} questions; 95 % intervals over questions (Wilson, or bootstrap of means), differences paired\n"
    )
    print(
        f"{'deadline':>9}  {'auto':26}{'best fixed, with hindsight':54}{'auto - best':>26}{'tokens':>14}{'late ms':>9}"
    )
    gaps = []
    for seconds in sorted({row["seconds"] for row in rows}):
        by = {s: [table[n, seconds, s] for n in numbers] for s in (auto, *FIXED)}
        right = {s: [float(row["right"]) for row in found] for s, found in by.items()}
        best = max(FIXED, key=lambda s: (sum(right[s]), -sum(row["tokens"] for row in by[s])))
        gain, low, high = paired([a - b for a, b in zip(right[auto], right[best], strict=True)])
        gaps.append(gain)
        tokens = [sum(row["tokens"] for row in by[s]) / len(numbers) for s in (auto, best)]
        late = max(row["late"] for row in by[auto]) * 1e3
        shares = [mean(right[s]) for s in (auto, best)]
        gap = f"{gain:+.1%} [{low:+.1%}, {high:+.1%}]"
        figures = f"{gap:>26}{tokens[0]:7.0f}{tokens[1]:7.0f}{late:9.1f}"
        print(f"{seconds:8.1f}s  {shares[0]:26}{best + ' ' + shares[1]:54}{figures}")
    print(f"\nauto less the best fixed one, mean over deadlines: {sum(gaps) / len(gaps):+.1%}")
    longest = max(row["seconds"] for row in rows)
    planned, fixed = ([table[n, longest, s] for n in numbers] for s in (auto, MAJORITY))
    saved = 1 - sum(row["tokens"] for row in planned) / max(1, sum(row["tokens"] for row in fixed))
    gain, low, high = paired([float(a["right"]) - float(b["right"]) for a, b in zip(planned, fixed, strict=True)])
    print(f"against a majority of 16 at {longest:g} s: {saved:.0%} fewer tokens, {gain:+.1%} [{low:+.1%}, {high:+.1%}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("simulated", "recorded", "embedded", "questions"))
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--deadlines", type=float, nargs="+", default=DEADLINES)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--seeds", type=int, default=3, help="of recorded: runs of each question")
    parser.add_argument("--sweeps", type=Path, nargs=3, default=SWEEPS)
    parser.add_argument("--out", type=Path, default=Path("runs/planning_auto.jsonl"))
    options = parser.parse_args()
    if options.what == "simulated":
        report(simulated.run(simulate(options.questions, options.seed, options.deadlines)))
        return
    if options.what == "questions":
        pairs = (question(number, options.seed) for number in range(options.questions))
        options.out.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in pairs))
        return
    auto = ("auto", "auto") if options.profile is None else ("auto, profile", f'auto(profile="{options.profile}")')
    if options.what == "recorded":
        said = Recorded(*options.sweeps)
        questions = min(options.questions, len(said.questions))
        work = recorded(said, questions, range(options.seeds), sorted(options.deadlines), auto)
        report(simulated.run(work), auto[0])
        return
    rows = kept(options.out)
    asyncio.run(embedded(rows, options.out, options.questions, options.seed, sorted(options.deadlines), auto))
    report([row for row in rows if row["number"] < options.questions], auto[0])


if __name__ == "__main__":
    main()
