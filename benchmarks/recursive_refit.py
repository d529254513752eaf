"""Change a checkpoint's settings of inference, fit its halt and value heads again to the roll-outs they lead to, and
save it.

    python benchmarks/recursive_refit.py runs/queens-8/checkpoint.safetensors queens-8.safetensors \\
        --first-temperature 1.5 --head-steps 1200
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from fathom.recursive.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fathom.recursive.heads import calibrate, fit_heads
from fathom.recursive.library import find_checkpoint
from fathom.recursive.tasks import open_task
from fathom.recursive.training import validate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("out", type=Path)
    parser.add_argument("--first-temperature", type=float)
    parser.add_argument("--head-steps", type=int, default=600)
    parser.add_argument("--head-rate", type=float, default=2e-3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    old = load_checkpoint(find_checkpoint(options.checkpoint))
    task = open_task(old.task)
    first = old.model.config.first_temperature if options.first_temperature is None else options.first_temperature
    model = old.model.with_settings(first_temperature=first)
    config = replace(old.training, head_steps=options.head_steps, head_rate=options.head_rate, validation_inputs=256)
    fit_heads(model, task, config, "cpu")
    metrics = {**validate(model, task, config, "cpu"), **calibrate(model, task, config, "cpu")}
    save_checkpoint(Checkpoint(old.task, model.eval(), config, old.step, metrics), options.out)
    print(json.dumps(metrics, indent=1))


if __name__ == "__main__":
    main()
