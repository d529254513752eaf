"""Print the table of shipped or given checkpoints on their test splits, with 95 % intervals over inputs.

python benchmarks/recursive_accuracy.py queens-8 sudoku-6 --width 20 --depths 8 16
python benchmarks/recursive_accuracy.py runs/mine/checkpoint.safetensors --inputs 200
python benchmarks/recursive_accuracy.py queens-8-trm --sigma 0.6 --split validation
python benchmarks/recursive_accuracy.py sudoku-6 --kind unique --rated 1 99
python benchmarks/recursive_accuracy.py queens-8 --first-temperature 1.25 --depths 16 --widths 20

A Sudoku's rating is the number of guesses that a depth-first search makes until its solution is proved unique: 0 where
singles alone solve it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from fathom.recursive.checkpoint import load_checkpoint
from fathom.recursive.evaluate import Point, evaluate
from fathom.recursive.library import find_checkpoint
from fathom.recursive.tasks import Task, open_task
from fathom.recursive.tasks.sudoku import Sudoku

COLUMNS = ("accuracy", "coverage", "attainable", "vote", "value", "halt", "verifier")


def row(name: str, point: Point) -> str:
    """One line of the table."""
    cells = [str(getattr(point, column)) for column in COLUMNS]
    head = [name, str(point.inputs), str(point.depth), str(point.width)]
    return " | ".join([*head, *cells, f"{point.distinct:.1f}"])


def rated(task: Task, x: Tensor, low: int, high: int) -> Tensor:
    """Which puzzles take between ``low`` and ``high`` guesses: (N,) bool. Says how many those are."""
    if not isinstance(task, Sudoku):
        raise SystemExit(f"--rated is for Sudoku, not for {task.name}")
    kept = torch.tensor([low <= task.grid.rating(clues) <= high for clues in x.tolist()], dtype=torch.bool)
    print(f"{int(kept.sum())} of {len(x)} puzzles are rated {low} to {high}")
    if not kept.any():
        raise SystemExit("there is nothing to measure")
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", help="names of shipped checkpoints, or paths")
    parser.add_argument("--depths", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--widths", type=int, nargs="+", default=[20])
    parser.add_argument("--inputs", type=int, help="evenly spaced inputs of the split; all where left out")
    parser.add_argument(
        "--kind", choices=["all", "unique", "many"], default="all", help="inputs with one solution, or more"
    )
    parser.add_argument("--rated", type=int, nargs=2, metavar=("LOW", "HIGH"), help="Sudoku whose rating lies between")
    parser.add_argument("--sigma", type=float, help="noise at inference for a deterministic checkpoint (PTRM)")
    parser.add_argument(
        "--first-temperature", type=float, help="of the first step's noise; the checkpoint's by default"
    )
    parser.add_argument("--split", choices=["validation", "test"], default="test")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(" | ".join(["checkpoint", "inputs", "depth", "width", *COLUMNS, "distinct"]))
    for name in options.checkpoints:
        checkpoint = load_checkpoint(find_checkpoint(name))
        task = open_task(checkpoint.task)
        x = task.inputs(options.split)
        solutions = task.count(x)
        if options.kind != "all":
            kept = (solutions == 1) == (options.kind == "unique")
            x, solutions = x[kept], solutions[kept]
        if options.rated:
            kept = rated(task, x, *options.rated)
            x, solutions = x[kept], solutions[kept]
        if options.inputs:
            stride = max(1, len(x) // options.inputs)
            x, solutions = x[::stride][: options.inputs], solutions[::stride][: options.inputs]
        said = {"noise": options.sigma, "first_temperature": options.first_temperature}
        model = checkpoint.model.with_settings(**{name: value for name, value in said.items() if value is not None})
        points = evaluate(
            model,
            task,
            x,
            depths=options.depths,
            widths=options.widths,
            seed=options.seed,
            solutions=solutions,
        )
        for point in points:
            print(row(Path(name).stem, point), flush=True)


if __name__ == "__main__":
    main()
