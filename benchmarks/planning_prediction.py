"""How well is time predicted? The seconds that a plan expects against those that it really takes.

    python benchmarks/planning_prediction.py simulated
    python benchmarks/planning_prediction.py embedded --questions 8
    python benchmarks/planning_prediction.py recorded --questions 60    # three sweeps' chains, in virtual time

Fixed votes of several widths, and answers without reasoning, are predicted by the cost model and run to their end
without a deadline. The usual length of a chain is that of the runs before: each question is predicted from what was
learned until then, as plans are. Errors are relative, |predicted - real| / real, without the first ``--warm``.

Of most of the error no planner is free: nobody knows beforehand how long a chain becomes. So two more things are shown.
*Lengths known* is the error where the lengths that came are put into the cost model: how well it knows the machine. And
the range that a plan gives with its seconds and tokens, from the 10th percentile to the 90th, ought to hold 80 % of
runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import simulated
from intervals import mean
from planning_auto import forgetful, question
from recorded import SWEEPS, Recorded
from resumable import kept

import fathom
from fathom import Meter, Problem
from fathom.planning.cost import CostModel
from fathom.planning.outlook import survey
from fathom.planning.scatter import rolling
from fathom.reasoner import Reasoner

RUNS = (
    ("direct(depth=0)", 1, 0),
    ("direct", 1, None),
    *((f"vote(width={width}, stop=never)", width, None) for width in (4, 8, 16)),
)


async def measure(
    model: Reasoner, text: str, seed: int, before: Callable[[int], Awaitable[None]] | None = None
) -> list[dict[str, Any]]:
    """Predicted and real seconds of every run on one question. ``before`` is told the number of each run."""
    rows = []
    for number, (strategy, width, depth) in enumerate(RUNS):
        if before is not None:
            await before(number)
        meter = Meter()
        session = await model.open(Problem.of(text), meter, seed=seed)
        (candidate,) = survey(session, meter).candidates.values()
        await session.aclose()
        wave = min(width, candidate.cost.costs.room or width)
        expected = candidate.cost.expect(width, depth, wave)
        result = await fathom.asolve(model, text, strategy=strategy, seed=seed)
        spent = result.receipt.spent
        row: dict[str, Any] = {"question": text, "strategy": strategy}
        row |= {"predicted": expected.seconds, "range": expected.seconds_range, "real": spent.seconds}
        row["paced"] = paced(candidate.cost, [t.depth for t in result.trajectories if t.finished], width)
        rows.append({**row, "tokens": spent.tokens, "tokens_range": expected.tokens_range})
    return rows


def paced(cost: CostModel, lengths: Sequence[int], width: int) -> float | None:
    """What the run should have taken, had its lengths been known beforehand; None where not all came to their own
    end."""
    if len(lengths) < width:
        return None
    return cost.drag * cost.costs.read_seconds + rolling(lengths, cost.costs.room or width, cost.paced)[0]


async def simulate(questions: int) -> list[dict[str, Any]]:
    model = simulated.model()
    await model.prepare()
    found = [await measure(model, f"question {number}", 1000 * number) for number in range(questions)]
    return [row for rows in found for row in rows]


async def recorded(said: Recorded, questions: int) -> list[dict[str, Any]]:
    """Each run on a question draws its chains anew."""
    model = said.model()
    await model.prepare()

    async def begin(q: int, number: int) -> None:
        said.begin(q, number)

    rows = []
    for q in range(min(questions, len(said.questions))):
        rows += await measure(model, f"question {q}", 1000 * q, before=partial(begin, q))
    return rows


async def embedded(rows: list[dict[str, Any]], out: Path, questions: int) -> None:
    """No run finds its question read by the one before."""
    model, engine = await forgetful()

    async def forget(number: int) -> None:
        await engine.forget_texts()

    with out.open("a") as file:
        for number in range(len(rows) // len(RUNS), questions):
            for row in await measure(model, question(number, 11)[0], 1000 * number, before=forget):
                rows.append(row)
                print(json.dumps(row), file=file, flush=True)
            print(f"{number + 1}/{questions}", flush=True)
    await model.aclose()


def report(rows: list[dict[str, Any]]) -> None:
    head = f"{'strategy':30}{'runs':>6}{'real s':>9}{'predicted s':>13}{'median error':>14}"
    print(f"{head}{'lengths known':>15}{'s within p10-p90':>24}{'tokens within':>24}")
    errors, machine = [], []
    for strategy, _, depth in RUNS:
        found = [row for row in rows if row["strategy"] == strategy]
        off = [abs(row["predicted"] - row["real"]) / row["real"] for row in found]
        known = [abs(row["paced"] - row["real"]) / row["real"] for row in found if row["paced"]]
        errors += off
        machine += off if depth == 0 else known
        real, predicted = (statistics.median(row[what] for row in found) for what in ("real", "predicted"))
        line = f"{strategy:30}{len(found):6}{real:9.2f}{predicted:13.2f}{statistics.median(off):14.1%}"
        line += f"{statistics.median(known):15.1%}" if known else " " * 15
        print(f"{line}{within(found, 'real', 'range'):>24}{within(found, 'tokens', 'tokens_range'):>24}")
    worst = statistics.quantiles(machine, n=10)[-1]
    print(f"\nmedian error over all runs: {statistics.median(errors):.1%}; with the lengths known (and those")
    print(f"without reasoning as predicted): {statistics.median(machine):.1%}, in nine runs of ten below {worst:.1%}")
    shares = within(rows, "real", "range"), within(rows, "tokens", "tokens_range")
    print(f"within p10-p90: {shares[0]} of times, {shares[1]} of tokens; runs of a question count as one observation")


def within(rows: list[dict[str, Any]], what: str, bounds: str) -> str:
    """The share of runs that came to lie in the range that was said; 80 % should. Those of one question share the
    lengths of its chains, and are no independent observations."""
    by_question: dict[str, list[bool]] = {}
    for row in rows:
        by_question.setdefault(row["question"], []).append(row[bounds][0] <= row[what] <= row[bounds][1])
    return mean([statistics.fmean(lay) for lay in by_question.values()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("simulated", "recorded", "embedded"))
    parser.add_argument("--questions", type=int, default=12)
    parser.add_argument("--warm", type=int, default=2)
    parser.add_argument("--sweeps", type=Path, nargs=3, default=SWEEPS)
    parser.add_argument("--out", type=Path, default=Path("runs/planning_prediction.jsonl"))
    options = parser.parse_args()
    if options.what == "simulated":
        rows = simulated.run(simulate(options.questions))
    elif options.what == "recorded":
        rows = simulated.run(recorded(Recorded(*options.sweeps), options.questions))
    else:
        rows = kept(options.out)
        asyncio.run(embedded(rows, options.out, options.questions))
    report(rows[options.warm * len(RUNS) :])


if __name__ == "__main__":
    main()
