"""A measured plane as a picture: accuracy as a heat map under lines of equal compute, latency and memory; beside it the
latent trajectories of one puzzle.

Colours keep their order for colour-blind readers and in grey (cividis; Okabe and Ito's palette), and whatever a colour
says, a line's style or a mark says too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fathom.recursive.curves import require_picture
from fathom.recursive.plane import LatentPaths, Plane, Selection

__all__ = ["draw_plane"]

BLUE, VERMILION, BLACK, WHITE = "#0072B2", "#D55E00", "#000000", "#FFFFFF"
SAID = {
    "sample": "one trajectory",
    "vote": "vote",
    "value": "choice of the value head",
    "valid": "choice by the constraints",
}


def draw_plane(plane: Plane, paths: LatentPaths, path: Path, selection: Selection = "vote") -> None:
    """Draw both as the file ``path``. Raises UsageError for a format that is none, MissingDependency without
    matplotlib.
    """
    require_picture(path, "a plane")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _draw_heat(figure, left, plane, selection)
    _draw_paths(right, paths, plane)
    figure.savefig(path, dpi=150)


def _draw_heat(figure: Any, axes: Any, plane: Plane, selection: Selection) -> None:
    x, y = np.log2(plane.depths), np.log2(plane.widths)
    shares = np.array([[plane.cell(d, w).share(selection).value for d in plane.depths] for w in plane.widths])
    heat = axes.pcolormesh(_edges(x), _edges(y), 100 * shares, cmap="cividis", vmin=0, vmax=100)
    figure.colorbar(heat, ax=axes, label=f"right, by the {SAID[selection]}, %")
    for column, depth in enumerate(x):
        for row, width in enumerate(y):
            bright = shares[row, column] > 0.55
            text = f"{100 * shares[row, column]:.0f}"
            axes.text(depth, width, text, ha="center", va="center", fontsize=8, color=BLACK if bright else WHITE)
    if len(x) > 1 and len(y) > 1:
        _draw_lines(axes, plane, x, y)
    axes.set(
        title=f"{plane.checkpoint}: {plane.inputs} puzzles",
        xlabel="depth, supervision steps",
        ylabel="width, trajectories",
        xticks=x,
        yticks=y,
        xticklabels=plane.depths,
        yticklabels=plane.widths,
    )


def _draw_lines(axes: Any, plane: Plane, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> None:
    """Lines of equal compute, latency and memory, in the log-log plane."""
    from matplotlib.patheffects import withStroke

    halo = withStroke(linewidth=3, foreground=WHITE)  # so that a line is seen on any colour
    depth, width = np.meshgrid(np.linspace(x[0], x[-1], 80), np.linspace(y[0], y[-1], 80))
    steps = [math.log2(plane.cell(1, w).seconds) for w in plane.widths]
    quantities: list[tuple[str, np.ndarray[Any, Any], str, str, Callable[[float], str]]] = [
        ("compute", depth + width + math.log2(plane.step_flops), "solid", BLACK, lambda v: f"{_short(v)}FLOP"),
        ("latency", depth + np.interp(width, y, steps), "dashed", VERMILION, _time),
        ("memory", width + math.log2(plane.trajectory_bytes), "dotted", BLUE, lambda v: f"{_short(v)}B"),
    ]
    for name, values, style, color, said in quantities:
        low, high = float(values.min()), float(values.max())
        levels = np.linspace(low, high, 6)[1:-1]
        lines = axes.contour(depth, width, values, levels=levels, colors=color, linestyles=style, linewidths=1.2)
        lines.set_path_effects([halo])
        labels = axes.clabel(lines, fmt={level: said(2.0**level) for level in levels}, fontsize=7)
        for label in labels:
            label.set_path_effects([halo])
        axes.plot([], [], color=color, linestyle=style, label=f"equal {name}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False)


def _draw_paths(axes: Any, paths: LatentPaths, plane: Plane) -> None:
    said = set()
    for points, right in zip(paths.points.numpy(), paths.right, strict=True):
        color, style, mark, label = (BLUE, "-", "o", "ends right") if right else (VERMILION, "--", "X", "ends wrong")
        axes.plot(*points.T, style, color=color, linewidth=0.8, alpha=0.6)
        axes.plot(*points[-1], mark, color=color, markersize=6, label=None if label in said else label)
        said.add(label)
    begun = paths.points[:, 0].numpy()
    axes.plot(*begun.T, "s", color=BLACK, markersize=3, linestyle="none", label="after the first step")
    first, second = (f"{100 * share:.0f} % of the variance" for share in paths.explained)
    steps = paths.points.shape[1]
    axes.set(
        title=f"{len(paths.right)} latent trajectories of one puzzle, {steps} steps",
        xlabel=f"first principal component, {first}",
        ylabel=f"second principal component, {second}",
    )
    axes.legend(loc="best", fontsize="small")


def _edges(centres: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The borders of cells with these centres."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    between = (centres[1:] + centres[:-1]) / 2
    return np.concatenate(([2 * centres[0] - between[0]], between, [2 * centres[-1] - between[-1]]))


def _short(value: float) -> str:
    """A number with a metric prefix."""
    power = max(0, min(5, int(math.log10(value)) // 3)) if value >= 1 else 0
    return f"{value / 1000**power:.3g} {' kMGTP'[power].strip()}"


def _time(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
