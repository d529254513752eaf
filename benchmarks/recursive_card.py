"""Write the card of a checkpoint, NAME.md beside it: what it is, how it was trained, what it does on its test split.

python benchmarks/recursive_card.py queens-8 --trained "10 minutes on one core" --width 20 --depths 8 16
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from fathom.recursive.checkpoint import Checkpoint, load_checkpoint
from fathom.recursive.config import ModelConfig, TrainConfig
from fathom.recursive.evaluate import Point, evaluate
from fathom.recursive.library import find_checkpoint
from fathom.recursive.tasks import Task, open_task

MEASURES = {
    "accuracy": "right samples",
    "coverage": "right answers found, of all",
    "attainable": "right answers found, of as many as there are samples",
    "vote": "vote",
    "value": "value head (LPRM)",
    "halt": "halt head",
    "disputed": "inputs whose samples disagree",
    "disputed_vote": "vote, on those",
    "disputed_value": "value head, on those",
    "verifier": "verifier (any sample right)",
}


def held_out(task: Task, limit: int | None) -> dict[str, tuple[Tensor, Tensor]]:
    """Test inputs and their numbers of answers; for Sudoku with many solutions, apart from those with one."""
    x = task.inputs("test")
    count = task.count(x)
    kinds = {"all": torch.ones_like(count, dtype=torch.bool)}
    if task.name.startswith("sudoku") and count.max() > 1:
        kinds = {"one solution": count == 1, "many solutions": count > 1}
    chosen = {}
    for name, kept in kinds.items():
        stride = max(1, int(kept.sum()) // limit) if limit else 1
        chosen[name] = (x[kept][::stride][:limit], count[kept][::stride][:limit])
    return chosen


def table(points: Sequence[Point]) -> list[str]:
    """A Markdown table, one column a point."""
    lines = [
        "| % [95 % interval over inputs] | " + " | ".join(f"depth {p.depth}, width {p.width}" for p in points) + " |",
        "|---|" + "---|" * len(points),
    ]
    for name, words in MEASURES.items():
        lines.append(f"| {words} | " + " | ".join(str(getattr(p, name) or "-") for p in points) + " |")
    lines.append("| different answers an input | " + " | ".join(f"{p.distinct:.1f}" for p in points) + " |")
    return lines


def changes(config: ModelConfig | TrainConfig) -> dict[str, object]:
    """The settings that differ from the defaults."""
    defaults = type(config)()
    return {
        f.name: getattr(config, f.name) for f in fields(config) if getattr(config, f.name) != getattr(defaults, f.name)
    }


def card(name: str, checkpoint: Checkpoint, trained: str, then: str | None, measured: dict[str, list[Point]]) -> str:
    """The card's text. ``then`` is a command that followed the training."""
    config, training, metrics = checkpoint.model.config, checkpoint.training, checkpoint.metrics
    parameters = sum(p.numel() for p in checkpoint.model.parameters())
    kind = "stochastic" if config.stochastic else "deterministic"
    own = {**changes(config), **changes(training), "seed": training.seed}
    arguments = " ".join(
        f"--set {key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in own.items()
    )
    lines = [
        f"# {name}",
        "",
        f"Task `{checkpoint.task}`, {parameters:,} parameters ({kind}), seed {training.seed}, "
        f"{checkpoint.step:,} steps of batch {training.batch}, {trained}.",
        "",
        f"- Command: `fathom train {checkpoint.task} --out runs/{name} --compile {arguments}`",
        *([f"- Then: `{then}`"] if then else []),
        f"- Halting: threshold {metrics['halt_threshold']}, calibrated on the validation split, where it stops after "
        f"{metrics['halt_depth']:.1f} steps of {2 * config.supervision} with accuracy "
        f"{100 * metrics['halt_accuracy']:.1f} %.",
        "",
    ]
    for kind, points in measured.items():
        lines += [f"Test split, {kind}: {points[0].inputs} inputs.", "", *table(points), ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--trained", required=True, help="how long it was trained, and on what")
    parser.add_argument("--then", help="a command that followed the training")
    parser.add_argument("--depths", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--width", type=int, default=20)
    parser.add_argument("--inputs", type=int, help="evenly spaced inputs of each kind; all where left out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = find_checkpoint(options.checkpoint)
    checkpoint = load_checkpoint(path)
    task = open_task(checkpoint.task)
    width = options.width if checkpoint.model.draws else 1
    measured = {
        kind: evaluate(checkpoint.model, task, x, depths=options.depths, widths=[width], solutions=solutions)
        for kind, (x, solutions) in held_out(task, options.inputs).items()
    }
    text = card(path.stem, checkpoint, options.trained, options.then, measured)
    path.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
