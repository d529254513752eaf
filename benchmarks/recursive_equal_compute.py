"""A deterministic model, the same with noise (PTRM) and a stochastic one (GRAM), at equal arithmetic a puzzle.

    python benchmarks/recursive_equal_compute.py sudoku-9-trm sudoku-9 --sigma 0.6 --depths 16 64 256 --inputs 240

What so many steps of one trajectory of the *first* checkpoint take is the budget of a block of the table; the others
have as many steps as that buys them, along one trajectory or spread over several. A noise of several values is chosen
on the validation split (``--sigma 0.3 0.6 1``), by the vote of 16 at the first depth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from fathom.recursive.checkpoint import load_checkpoint
from fathom.recursive.evaluate import evaluate
from fathom.recursive.flops import step_flops
from fathom.recursive.library import find_checkpoint
from fathom.recursive.model import RecursiveModel
from fathom.recursive.tasks import Task, open_task

COLUMNS = ("accuracy", "vote", "value", "halt", "verifier")


def evenly(x: Tensor, count: int) -> Tensor:
    return x[:: max(1, len(x) // count)][:count]


def quietest(model: RecursiveModel, task: Task, sigmas: list[float], depth: int) -> float:
    """The noise whose vote of 16 is right most often on the validation split, the smallest of equals."""
    if len(sigmas) == 1:
        return sigmas[0]
    x, best = evenly(task.inputs("validation"), 64), (-1.0, 0.0)
    for sigma in sorted(sigmas):
        (point,) = evaluate(model.with_settings(noise=sigma), task, x, depths=[depth], widths=[16])
        print(f"validation, noise {sigma}: samples {point.accuracy}, vote {point.vote}, any {point.verifier}")
        best = max(best, (point.vote.value, -sigma))
    return -best[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("deterministic", help="a checkpoint: a shipped one's name, or a path")
    parser.add_argument("stochastic", help="a checkpoint of the same task")
    parser.add_argument("--sigma", type=float, nargs="+", default=[0.6])
    parser.add_argument("--depths", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--inputs", type=int, default=240)
    options = parser.parse_args()
    torch.set_num_threads(1)
    trm, gram = (load_checkpoint(find_checkpoint(name)) for name in (options.deterministic, options.stochastic))
    if trm.task != gram.task or trm.model.draws or not gram.model.draws:
        raise SystemExit("one deterministic and one stochastic checkpoint of the same task are compared")
    task = open_task(trm.task)
    x = evenly(task.inputs("test"), options.inputs)
    solutions = task.count(x)
    noise = quietest(trm.model, task, options.sigma, min(options.depths))
    models = {
        Path(options.deterministic).stem: trm.model,
        f"the same, noise {noise}": trm.model.with_settings(noise=noise),
        Path(options.stochastic).stem: gram.model,
    }
    unit = step_flops(trm.model)
    for name, model in models.items():
        print(f"{name}: {step_flops(model) / 1e6:.0f} MFLOPs a step")
    print(" | ".join(["GFLOPs a puzzle", "model", "width × depth", *COLUMNS]))
    for budget in options.depths:
        for name, model in models.items():
            for width in options.widths if model.draws else [1]:
                if depth := round(budget * unit / step_flops(model) / width):
                    (point,) = evaluate(model, task, x, depths=[depth], widths=[width], solutions=solutions)
                    cells = [str(getattr(point, column)) for column in COLUMNS]
                    spent = f"{width * depth * step_flops(model) / 1e9:.2f}"
                    print(" | ".join([spent, name, f"{width} × {depth}", *cells]), flush=True)


if __name__ == "__main__":
    main()
