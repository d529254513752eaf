"""A training run's learning curves as a picture: what the losses say above, what prior roll-outs say below.

Both belong side by side: a cross-entropy near nothing over roll-outs that are never right is how a leak looks
(docs/recursive.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fathom.errors import MissingDependency, UsageError

__all__ = ["draw_curves", "require_picture"]

LOSSES = {
    "reconstruction": "cross-entropy",
    "kl_first_step": "KL of the first step, nats a position",
}
ACCURACIES = {
    "accuracy_first_step": "right after one step",
    "accuracy": "right after the trained depth",
    "coverage": "coverage",
    "prior_accuracy_in_training": "right in training, on policy",
}
FORMATS = (".png", ".svg", ".pdf")


def require_picture(path: Path, of: str = "learning curves") -> None:
    """Raise, before hours are spent, where no picture could be drawn at ``path``: an unknown format, no matplotlib."""
    if path.suffix not in FORMATS:
        raise UsageError(f"a picture of {of} ends in {', '.join(FORMATS)}, not in {path.suffix or path.name!r}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependency("matplotlib", "plot", f"a picture of {of}") from error


def draw_curves(history: Sequence[Mapping[str, float]], title: str, path: Path) -> None:
    """Draw the validations of a run, one entry each, as the file ``path``."""
    require_picture(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6.5), layout="constrained")
    losses, accuracies = figure.subplots(2, 1, sharex=True)
    for axes, curves in ((losses, LOSSES), (accuracies, ACCURACIES)):
        for name, label in curves.items():
            points = [(entry["step"], entry[name]) for entry in history if name in entry]
            if any(value for _, value in points) or axes is accuracies:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    losses.set(title=title, ylabel="loss", yscale="log")
    accuracies.set(xlabel="step", ylabel="share of prior roll-outs", ylim=(-0.02, 1.02))
    figure.savefig(path, dpi=150)
