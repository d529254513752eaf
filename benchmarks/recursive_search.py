"""What searching in latent space buys: votes, halving, beams and particles at equal supervision steps.

    python benchmarks/recursive_search.py queens-8 sudoku-6 --inputs 200

The value head is the process reward. Neither halting nor the constraints have a part in it: every search spends all of
its steps, and right answers are counted afterwards. The last column is the paired difference to the vote of the same
width and steps in the first row, with its 95 % interval over puzzles.
"""

from __future__ import annotations

import argparse
import asyncio

import torch
from intervals import paired, share
from torch import Tensor

import fathom
from fathom.recursive.plane import held_out
from fathom.recursive.reasoner import RecursiveReasoner
from fathom.recursive.tasks.sudoku import Sudoku

BUDGETS = {
    12: [
        "vote(width=4, depth=3, stop=never)",
        "vote(width=2, depth=6, stop=never)",
        "best-of-n(width=4, depth=3, judge=value)",
        "best-of-n(width=4, depth=3, judge=value, weighted=true)",
        "halving(width=4, units=1, judge=value)",
        "beam(width=4, branching=2, steps=3, judge=value)",
        "particles(width=4, steps=3, judge=value)",
    ],
    32: [
        "vote(width=8, depth=4, stop=never)",
        "vote(width=4, depth=8, stop=never)",
        "best-of-n(width=8, depth=4, judge=value)",
        "best-of-n(width=8, depth=4, judge=value, weighted=true)",
        "halving(width=8, units=1, judge=value)",
        "beam(width=8, branching=2, steps=4, judge=value)",
        "beam(width=4, branching=2, steps=8, judge=value)",
        "particles(width=8, steps=4, judge=value)",
        "particles(width=4, steps=8, judge=value)",
    ],
}


def puzzles(model: RecursiveReasoner, inputs: int) -> Tensor:
    """Held-out inputs; of Sudoku those with one solution."""
    if isinstance(model.task, Sudoku):
        return model.task.inputs("test")[:inputs]
    return held_out(model.task, inputs)


async def table(model: RecursiveReasoner, inputs: int) -> None:
    x = puzzles(model, inputs)
    flops = (await model.prepare()).step_flops
    for steps, strategies in BUDGETS.items():
        print(f"\n{model.name}, {steps} steps a puzzle, {len(x)} puzzles", flush=True)
        first: list[bool] = []
        for strategy in strategies:
            right, spent = [], 0.0
            for number, puzzle in enumerate(x):
                result = await fathom.asolve(model, model.task.render(puzzle), strategy=strategy, seed=number)
                best = next(t for t in result.trajectories if t.answer == result.answer)
                right.append(bool(model.task.valid(puzzle[None], best.state.answer[None])))
                spent += result.receipt.spent.flops / flops / len(x)
            first = first or right
            gain, low, high = paired([float(a) - float(b) for a, b in zip(right, first, strict=True)])
            versus = f"{100 * gain:+6.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
            print(f"{strategy:58} {spent:5.1f} {share(sum(right), len(right))}  {versus}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="*", default=["queens-8", "sudoku-6"])
    parser.add_argument("--inputs", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.checkpoints:
        model = fathom.open(f"recursive:{name}", constraints=False, halting=False)
        assert isinstance(model, RecursiveReasoner)
        asyncio.run(table(model, options.inputs))


if __name__ == "__main__":
    main()
