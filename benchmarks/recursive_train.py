"""Train a checkpoint as the shipped ones were; their cards name the arguments. A stopped run goes on where it was.

python benchmarks/recursive_train.py queens-8 --out runs/queens-8 --set steps=1800 seed=0
python benchmarks/recursive_train.py queens-8 --preset trm --out runs/queens-8-trm --set mode=on-policy
torchrun --nproc-per-node=2 benchmarks/recursive_train.py sudoku-6 --out runs/sudoku-6
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from fathom.recursive.config import PRESETS, SIZES, settings
from fathom.recursive.tasks import TASKS, open_task
from fathom.recursive.training import train


def setting(text: str) -> tuple[str, Any]:
    """``name=value``, the value a number, true, false or a word."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--preset", choices=PRESETS, default="gram")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument(
        "--set", type=setting, nargs="*", default=[], metavar="NAME=VALUE", help="any setting of model or training"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile the step: a minute to start, then 1.5 times as fast"
    )
    options = parser.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(1)
    began = time.monotonic()

    def show(entry: dict[str, float]) -> None:
        figures = "  ".join(f"{name} {value:.3f}" for name, value in entry.items() if name != "step")
        print(f"{time.monotonic() - began:6.0f} s  step {entry['step']:.0f}  {figures}", flush=True)

    task = open_task(options.task)
    model, training = settings(options.preset, options.size, **{**task.defaults, **dict(options.set)})
    made = train(task, model, training, options.out, device=options.device, compiled=options.compile, progress=show)
    print(json.dumps({**made.metrics, "parameters": sum(p.numel() for p in made.model.parameters())}, indent=1))


if __name__ == "__main__":
    main()
