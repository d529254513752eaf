"""Figures of a report: readable in print and for the colour-blind, by colour, marker and dash together.

The colours are Okabe and Ito's (2008). Every function draws one figure; what is extrapolated is dashed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fathom.errors import MissingDependency
from fathom.lab.coverage import CoverageFit, HeldOut
from fathom.lab.statistics import FloatArray, Interval
from fathom.lab.summary import Bin, Row

try:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingDependency("matplotlib", "lab", "a report's figures") from error

__all__ = ["accuracy", "calibration", "coverage", "good", "per_right", "plane", "rendered", "scatter", "times"]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), "-", "--")
_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "svg.hashsalt": "fathom",
    "svg.fonttype": "path",
}


def _figure(width: float = 6.4, height: float = 4.2) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _look(number: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[number % 8],
        "marker": _MARKERS[number % 8],
        "linestyle": _DASHES[number % 8],
        "markersize": 4.5,
        "linewidth": 1.4,
    }


def rendered(figure: Figure, kind: str) -> bytes:
    """The figure as ``svg`` or ``png``; the same figure is the same bytes."""
    out = io.BytesIO()
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        if figure.get_layout_engine() is not None:  # laid out once, for however many formats
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(out, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return out.getvalue()


def _spread(intervals: Sequence[Interval]) -> FloatArray:
    """What intervals reach below and above their values, (2, N)."""
    return np.array([[max(0.0, i.value - i.low), max(0.0, i.high - i.value)] for i in intervals]).reshape(-1, 2).T


def _lines(axes: Any, rows: Mapping[str, Sequence[Row]], x: str, y: str, band: bool) -> None:
    for number, (name, points) in enumerate(rows.items()):
        at = [getattr(p, x) for p in points]
        value = [getattr(p, y) for p in points]
        if y == "accuracy":
            value = [v.value for v in value]
        axes.plot(at, value, label=name, **_look(number))
        if band and len(points) > 1:
            low, high = [p.accuracy.low for p in points], [p.accuracy.high for p in points]
            axes.fill_between(at, low, high, color=_COLOURS[number % 8], alpha=0.12, linewidth=0)
        elif band:
            p = points[0]
            axes.errorbar(at, value, yerr=_spread([p.accuracy]), color=_COLOURS[number % 8], capsize=3, linewidth=1)


def accuracy(rows: Mapping[str, Sequence[Row]], unit: str) -> Figure:
    """Accuracy against what was generated (log₂), with 95 % bands."""
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure, axes = _figure()
        _lines(axes, rows, "tokens", "accuracy", band=True)
        axes.set_xscale("log", base=2)
        axes.set_xlabel(f"{unit}s a question (log₂)")
        axes.set_ylabel("accuracy")
        axes.legend(fontsize=8)
        return figure


def times(rows: Mapping[str, Sequence[Row]]) -> Figure:
    """Accuracy against seconds: the median with its marker, a line out to the 95th percentile."""
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure, axes = _figure()
        for number, (name, points) in enumerate(rows.items()):
            middle, slow = [p.seconds[0] for p in points], [p.seconds[1] for p in points]
            value = [p.accuracy.value for p in points]
            axes.plot(middle, value, label=name, **_look(number))
            axes.hlines(value, middle, slow, color=_COLOURS[number % 8], alpha=0.5, linewidth=1)
        axes.set_xscale("log")
        axes.set_xlabel("seconds a question: median, and line to the 95th percentile")
        axes.set_ylabel("accuracy")
        axes.legend(fontsize=8)
        return figure


def good(deadlines: FloatArray, shares: Mapping[str, FloatArray]) -> Figure:
    """The share of questions that are answered rightly within a deadline, at the best width for it."""
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure, axes = _figure()
        for number, (name, share) in enumerate(shares.items()):
            axes.plot(deadlines, share, label=name, **{**_look(number), "markevery": 6})
        axes.set_xscale("log")
        axes.set_xlabel("deadline, seconds")
        axes.set_ylabel("answered rightly in time")
        axes.legend(fontsize=8)
        return figure


def per_right(rows: Mapping[str, Sequence[Row]], unit: str) -> Figure:
    """What a right answer costs, against accuracy."""
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure, axes = _figure()
        for number, (name, points) in enumerate(rows.items()):
            axes.plot([p.accuracy.value for p in points], [p.per_right for p in points], label=name, **_look(number))
        axes.set_yscale("log", base=2)
        axes.set_xlabel("accuracy")
        axes.set_ylabel(f"{unit}s for each right answer (log₂)")
        axes.legend(fontsize=8)
        return figure


def calibration(bins: Mapping[str, tuple[Sequence[Bin], float]]) -> Figure:
    """Accuracy against the confidence that was stated; on the diagonal it means what it says."""
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure, axes = _figure(4.8, 4.4)
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":")
        for number, (name, (found, error)) in enumerate(bins.items()):
            at, value = [b.confidence for b in found], [b.accuracy.value for b in found]
            look = _look(number)
            axes.errorbar(
                at,
                value,
                yerr=_spread([b.accuracy for b in found]),
                label=f"{name}: error {error:.1%}",
                capsize=2,
                **look,
            )
        axes.set_xlabel("confidence stated")
        axes.set_ylabel("right")
        axes.legend(fontsize=8)
        return figure


def coverage(
    k: Sequence[int], observed: Sequence[Interval], fit: CoverageFit, out: HeldOut | None, beyond: int
) -> Figure:
    """Coverage of k samples: observed with its interval, fitted, and dashed where it is extrapolated."""
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure, axes = _figure()
        axes.errorbar(
            k, [o.value for o in observed], yerr=_spread(observed), label="oracle (pass@k)", capsize=2, **_look(0)
        )
        inside, outside = np.geomspace(1, k[-1], 40), np.geomspace(k[-1], beyond, 40)
        axes.plot(inside, fit.pass_at(inside), color=_COLOURS[1], linewidth=1.2, label="beta-binomial fit")
        axes.plot(outside, fit.pass_at(outside), color=_COLOURS[1], linewidth=1.2, linestyle="--", label="extrapolated")
        if out is not None:
            label = f"fitted on {out.seen} samples, error {out.error:.1%}"
            axes.plot(out.k, out.predicted, color=_COLOURS[2], marker="x", linestyle="none", label=label)
        axes.set_xscale("log", base=2)
        axes.set_xlabel("samples a question (log₂)")
        axes.set_ylabel("questions with a right sample")
        axes.legend(fontsize=8)
        return figure


def plane(depths: Sequence[int], widths: Sequence[int], values: FloatArray, unit: str) -> Figure:
    """Majority accuracy over depth and width, (D, W), with lines of equal compute (diagonal), equal latency (the depth)
    and equal memory (the width)."""
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure, axes = _figure(6.0, 4.4)
        shown = axes.pcolormesh(range(len(widths) + 1), range(len(depths) + 1), values, cmap="cividis")
        for d in range(len(depths)):
            for w in range(len(widths)):
                dark = values[d, w] < (values.min() + values.max()) / 2
                colour = "white" if dark else "black"
                axes.text(w + 0.5, d + 0.5, f"{values[d, w]:.0%}", ha="center", va="center", color=colour, fontsize=8)
        axes.set_xticks(np.arange(len(widths)) + 0.5, [str(w) for w in widths])
        axes.set_yticks(np.arange(len(depths)) + 0.5, [str(d) for d in depths])
        total = np.log2(np.outer(depths, widths))
        at = np.meshgrid(np.arange(len(widths)) + 0.5, np.arange(len(depths)) + 0.5)
        if min(values.shape) > 1:
            axes.contour(*at, total, levels=6, colors="#555555", linewidths=0.8, linestyles="dashed")
        axes.grid(visible=False)
        axes.set_xlabel("width: samples (columns: equal memory; dashed: equal compute)")
        axes.set_ylabel(f"depth: {unit}s (rows: equal latency)")
        figure.colorbar(shown, ax=axes, label="majority accuracy")
        return figure


def scatter(
    points: Mapping[str, Sequence[tuple[float, Interval, bool]]], label: str, best: Sequence[tuple[float, float]]
) -> Figure:
    """Models compared: (cost, accuracy, on the frontier) of each; dominated points are grey, the frontier steps."""
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure, axes = _figure()
        for number, (name, found) in enumerate(points.items()):
            look = _look(number)
            off = [(x, a.value) for x, a, on in found if not on]
            axes.plot(
                [x for x, _ in off],
                [y for _, y in off],
                color="#bbbbbb",
                marker=look["marker"],
                linestyle="none",
                markersize=4,
            )
            on = [(x, a) for x, a, on in found if on]
            axes.errorbar(
                [x for x, _ in on],
                [a.value for _, a in on],
                yerr=_spread([a for _, a in on]),
                label=name,
                capsize=2,
                color=look["color"],
                marker=look["marker"],
                linestyle="none",
                markersize=5,
            )
        axes.step(
            [x for x, _ in best], [y for _, y in best], where="post", color="#333333", linewidth=1, label="frontier"
        )
        axes.set_xscale("log")
        axes.set_xlabel(label)
        axes.set_ylabel("accuracy")
        axes.legend(fontsize=8)
        return figure
