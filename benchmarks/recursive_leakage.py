"""Show how the answer leaks past the KL: three ways to draw ε in the transitions before the last of a supervision step.

    python benchmarks/recursive_leakage.py --task sudoku-4 --steps 600

With posterior samples there, which no KL covers, the cross-entropy falls while the prior learns nothing.
"""

from __future__ import annotations

import argparse

import torch

from fathom.recursive.config import settings
from fathom.recursive.tasks import TASKS, open_task
from fathom.recursive.training import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, default="sudoku-4")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--mode", choices=["paper", "on-policy"], nargs="+", default=["paper", "on-policy"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = open_task(options.task)
    print(
        "mode | transitions | early | cross-entropy | KL of the first step | prior: first step | last step | coverage"
    )
    for mode in options.mode:
        for transitions, early in ((1, "deterministic"), (2, "deterministic"), (2, "prior"), (2, "posterior")):
            wanted = {
                **task.defaults,
                "mode": mode,
                "transitions": transitions,
                "early": early,
                "steps": options.steps,
                "seed": options.seed,
                "learning_rate": 2e-3,
            }
            trainer = Trainer(task, *settings("gram", "micro", **wanted))
            while trainer.step < options.steps:
                trainer.advance()
            last = trainer.validate()
            figures = [
                last[n] for n in ("reconstruction", "kl_first_step", "accuracy_first_step", "accuracy", "coverage")
            ]
            print(mode, transitions, early, *(f"{figure:.3f}" for figure in figures), sep=" | ", flush=True)


if __name__ == "__main__":
    main()
