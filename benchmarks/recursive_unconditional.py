"""Generate answers to the empty input, and print how many are valid and how many of those differ.

python benchmarks/recursive_unconditional.py sudoku-6 --samples 400
"""

from __future__ import annotations

import argparse

import torch

from fathom.recursive.checkpoint import load_checkpoint
from fathom.recursive.evaluate import wilson
from fathom.recursive.library import find_checkpoint
from fathom.recursive.rollout import trajectories
from fathom.recursive.tasks import open_task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--depths", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=0, help="how many of them to print")
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(find_checkpoint(options.checkpoint))
    task = open_task(checkpoint.task)
    x = torch.zeros(1, task.shape.length, dtype=torch.long)
    rolled = trajectories(checkpoint.model, x, depths=tuple(options.depths), width=options.samples, seed=options.seed)
    print("depth | valid | different ones among the valid")
    for depth, (answers, _, _) in rolled.items():
        right = task.valid(x.expand(options.samples, -1), answers[0])
        different = {tuple(answer) for answer in answers[0][right].tolist()}
        print(f"{depth} | {wilson(int(right.sum()), options.samples)} | {len(different)} of {int(right.sum())}")
    for answer in answers[0][: options.show]:
        print(f"\n{task.render(x[0], answer)}")


if __name__ == "__main__":
    main()
