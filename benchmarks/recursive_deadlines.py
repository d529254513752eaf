"""How late are the answers of a recursive model? ``solve`` to a deadline, on puzzles of the test split.

    python benchmarks/recursive_deadlines.py queens-8

``verified`` is the default search, which ends at the first right answer; ``vote`` goes on until the deadline. Overshoot
is the time from the call to the answer, less the deadline; below zero where the run ended early.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import fathom
from fathom.recursive.reasoner import RecursiveReasoner

DEADLINES = (0.1, 0.3, 1.0)
STRATEGIES = {"verified": "best-of-n", "vote": "vote(width=100000, stop=never)"}


async def table(model: RecursiveReasoner, runs: int) -> None:
    task = model.task
    puzzles = [task.render(x) for x in task.inputs("test")[:runs]]
    print(f"{model.name:24}{'deadline':>9}{'answered':>10}{'valid':>7}{'overshoot ms: p50':>20}{'p99':>8}{'max':>8}")
    for name, strategy in STRATEGIES.items():
        for deadline in DEADLINES:
            late, answered, valid = [], 0, 0
            for number in range(runs):
                began = time.monotonic()
                try:
                    result = await fathom.asolve(
                        model, puzzles[number % len(puzzles)], strategy=strategy, within=deadline, seed=number
                    )
                    answered += bool(result.answer)
                    valid += result.receipt.valid is True
                except fathom.FathomError as error:
                    print(f"  run {number}: {error}")
                late.append(1e3 * (time.monotonic() - began - deadline))
            late.sort()
            p50, p99 = late[len(late) // 2], late[min(len(late) - 1, int(0.99 * len(late)))]
            figures = f"{p50:20.1f}{p99:8.1f}{late[-1]:8.1f}"
            print(f"  {name:22}{deadline:8.1f}s{answered:7}/{runs}{valid:4}/{runs}{figures}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="*", default=["queens-8"])
    parser.add_argument("--runs", type=int, default=50)
    options = parser.parse_args()
    for name in options.checkpoints:
        model = fathom.open(f"recursive:{name}")
        assert isinstance(model, RecursiveReasoner)
        asyncio.run(table(model, options.runs))


if __name__ == "__main__":
    main()
