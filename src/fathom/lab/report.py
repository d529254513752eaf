"""The report of a directory of sweeps: one HTML page that holds everything, its figures as SVG and PNG beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fathom.errors import FathomError, InputError
from fathom.lab import figures
from fathom.lab.coverage import fit_coverage, held_out
from fathom.lab.page import figure, page, paragraph, section, table
from fathom.lab.pool import Pool, load
from fathom.lab.scoring import DRAWS, Point, baselines, default_strategies, powers, score
from fathom.lab.statistics import RESAMPLES, Interval, mean_interval, passes_at_k, wilson
from fathom.lab.store import Store
from fathom.lab.summary import Bin, Row, against_majority, goodput, reliability, rows, tuned
from fathom.records import Spent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["report"]

BEYOND = 16
"""How many times as many samples as the pool has the coverage is extrapolated to."""
EXAMPLES = 12
SHOWN = ("greedy", "majority", "oracle", "vote", "best-of-n", "first")
"""The curves of a figure; the table has all of them."""


def report(directory: Path | str) -> Path:
    """Write ``report.html`` and the folder ``report`` with its figures; returns the page.

    Raises InputError where there is no store, or no question has all its samples yet.
    """
    directory = Path(directory)
    with Store(directory) as store:
        sweeps = [(list(load(store, sweep)), store.spent(sweep.id), _live(store, sweep.id)) for sweep in store.sweeps()]
    sweeps = [one for one in sweeps if one[0]]
    if not sweeps:
        raise InputError(f"{directory} holds no question yet that has all its samples")
    out = _Out(directory / "report")
    parts: list[str] = []
    for pools, spent, live in sweeps:
        parts.append(_account(pools, spent))
        for pool in pools:
            parts += _pool(pool, out)
        if len(pools) > 1:
            parts.append(_plane(pools, out))
        if live:
            parts.append(section("Run live", paragraph("Searches that steer generation, run on every question."), live))
        parts.append(_examples(pools[-1]))
    where = directory / "report.html"
    _write(where, page(f"Fathom: {directory.resolve().name}", parts).encode())
    return where


@dataclass
class _Out:
    """The folder for figures, which numbers them."""

    folder: Path
    names: list[str] = field(default_factory=list)

    def add(self, name: str, drawn: Figure, caption: str) -> str:
        """Keep a figure as SVG and PNG; returns it for the page."""
        self.names.append(name)
        stem = f"{len(self.names):02}-{name}"
        svg = figures.rendered(drawn, "svg")
        _write(self.folder / f"{stem}.svg", svg)
        _write(self.folder / f"{stem}.png", figures.rendered(drawn, "png"))
        return figure(svg, caption)


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise FathomError(f"cannot write {path}: {error}") from None


def _account(pools: Sequence[Pool], spent: Spent) -> str:
    """What was sampled, under which terms, and what all of it cost."""
    pool, terms = pools[0], pools[0].sweep.terms
    cost = "unknown" if spent.cost is None else f"${spent.cost:.4f}" if spent.cost else "none"
    facts: dict[str, object] = {
        "model": terms.model,
        "file": terms.model_hash[:16] or "on a server",
        "engine": terms.engine,
        "sampling": terms.sampling or "the model's own",
        "prompts": terms.prompts or "the model's own",
        "dataset": terms.dataset,
        "seed": terms.seed,
        "questions": f"{len(pool)}, and {pool.left_out} left out that have not all their samples",
        "samples a question": pool.width,
        "depths": ", ".join("no limit" if p.depth is None else str(p.depth) for p in pools),
        "generated in all": f"{spent.tokens:,} tokens, {spent.prompt_tokens:,} read, in {spent.calls:,} calls",
        "arithmetic": f"{spent.flops:.3g} FLOPs",
        "model time": f"{spent.seconds:,.0f} s",
        "price": cost,
    }
    return section(pool.sweep.name, table(("", ""), facts.items()))


def _pool(pool: Pool, out: _Out) -> list[str]:
    said = "" if pool.depth is None else f" at depth {pool.depth}"
    unit = str(pool.sweep.facts.get("unit", "token"))
    points = [*baselines(pool), *score(pool, default_strategies(pool))]
    found = rows(pool, points)
    curves = _curves(found)
    plain = {name: of for name, of in curves.items() if name != "oracle"}
    bands = f"Bands: 95 % over questions, from {RESAMPLES:,} bootstrap resamples, or Wilson's where all are 0 or 1."
    deadlines = _deadlines(found)
    parts = [
        out.add("accuracy", figures.accuracy(curves, unit), f"Accuracy against {unit}s. {bands}"),
        out.add("time", figures.times(plain), f"Accuracy against time. {_timing(pool)}"),
        out.add(
            "goodput",
            figures.good(deadlines, goodput(pool, [p for p in points if p.strategy in plain], deadlines)),
            "Answered rightly within a deadline, at the width that is best for it: chosen on one half of the "
            "questions, reported on the other.",
        ),
        out.add("cost", figures.per_right(plain, unit), f"{unit.capitalize()}s for each right answer."),
        out.add("calibration", figures.calibration(_bins(points, pool.width)), "What stated confidence is worth."),
        _coverage(pool, out),
    ]
    texts = [_tuning(pool), _differences(pool, points)]
    return [
        section(f"Accuracy and what it costs{said}", *parts),
        section(f"Strategies compared{said}", *texts),
        section(f"All numbers{said}", _numbers(found, unit)),
    ]


def _curves(found: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of the strategies that figures show, by name, cheapest first."""
    curves: dict[str, list[Row]] = {}
    for name in SHOWN:
        having = [row for row in found if row.strategy == name and (name in ("greedy", "majority") or row.width > 1)]
        if having:
            curves[name] = sorted(having, key=lambda row: row.tokens)
    return curves


def _deadlines(found: Sequence[Row]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    seconds = [s for row in found for s in row.seconds if s > 0] or [1.0]
    return np.geomspace(min(seconds) / 2, max(seconds) * 1.5, 60)


def _timing(pool: Pool) -> str:
    if "pace" in pool.sweep.facts:
        return "Times are computed from the pace that was measured of the engine on the machine of the sweep."
    return "Times are those of the sweep's own samples, in proportion to their length."


def _bins(points: Sequence[Point], width: int) -> dict[str, tuple[list[Bin], float]]:
    chosen = {"greedy": 1, "vote(stop=never)": width, "vote": width, "best-of-n": width}
    return {p.strategy: reliability(p) for p in points if chosen.get(p.strategy) == p.width}


def _coverage(pool: Pool, out: _Out) -> str:
    right = pool.samples.right
    n, correct = np.full(len(pool), pool.width), right.sum(1).astype(int)
    if pool.width < 2:
        return ""
    ks = powers(pool.width)
    observed = [mean_interval(passes_at_k(n, correct, k)) for k in ks]
    out_of = held_out(right)
    drawn = figures.coverage(ks, observed, fit_coverage(n, correct), out_of, BEYOND * pool.width)
    error = "" if out_of is None else f" Fitted on {out_of.seen} samples only, it is off by at most {out_of.error:.1%}."
    return out.add("coverage", drawn, f"Questions with a right sample, and what more samples would find.{error}")


def _tuning(pool: Pool) -> str:
    found = tuned(pool)
    if found is None:
        return ""
    return paragraph(
        f"Stopping early, with a threshold of {found.sure:g} that was tuned on one half of the questions, spends "
        f"{found.tokens_saved:.0%} less than the fixed vote of {found.width} on the other half ({found.questions} "
        f"questions), at a difference in accuracy of {found.difference.signed}."
    )


def _differences(pool: Pool, points: Sequence[Point]) -> str:
    head = ("strategy", "accuracy against the majority", "spends less", "questions to settle it")
    return table(
        head,
        [
            (v.strategy, v.difference.signed, f"{v.tokens_saved:.0%}", "-" if v.needed is None else f"{v.needed:,}")
            for v in against_majority(pool, points)
        ],
    )


def _numbers(found: Sequence[Row], unit: str) -> str:
    head = ("strategy", "width", "accuracy", f"{unit}s", "s (p50)", "s (p95)", "FLOPs", "$", f"{unit}s/right", "draws")
    body = [
        (
            row.strategy,
            row.width,
            row.accuracy,
            f"{row.tokens:.0f}",
            f"{row.seconds[0]:.3g}",
            f"{row.seconds[1]:.3g}",
            "-" if math.isnan(row.flops) else f"{row.flops:.3g}",
            "-" if row.dollars is None else f"{row.dollars:.3g}",
            "-" if math.isinf(row.per_right) else f"{row.per_right:.0f}",
            row.draws or "all",
        )
        for row in found
    ]
    return table(head, body) + paragraph(
        f"A strategy of width k is scored on all draws of k of the samples where they are at most {DRAWS}, else on as "
        f"many random ones as the last column says. Majority and oracle are exact."
    )


def _plane(pools: Sequence[Pool], out: _Out) -> str:
    limited = [pool for pool in pools if pool.depth is not None]
    if len(limited) < 2:
        return ""
    widths = powers(min(pool.width for pool in limited))
    values = np.array(
        [[p.right.mean() for p in baselines(pool, widths) if p.strategy == "majority"] for pool in limited]
    )
    unit = str(limited[0].sweep.facts.get("unit", "token"))
    depths = [pool.depth or 0 for pool in limited]
    drawn = figures.plane(depths, widths, values, unit)
    return section("Depth and width", out.add("plane", drawn, "The accuracy of the majority over depth and width."))


def _live(store: Store, sweep: int) -> str:
    """A table of the strategies that were run live; empty where there are none."""
    by: dict[tuple[str, str], list[tuple[float, Mapping[str, float]]]] = {}
    for outcome in store.outcomes(sweep):
        by.setdefault((outcome.strategy, outcome.budget), []).append((outcome.score, outcome.spent))
    if not by:
        return ""
    body = []
    for (strategy, budget), outcomes in by.items():
        right: Interval = wilson(sum(s >= 1 for s, _ in outcomes), len(outcomes))
        tokens = float(np.mean([spent.get("tokens", 0) for _, spent in outcomes]))
        seconds = np.quantile([spent.get("seconds", 0.0) for _, spent in outcomes], (0.5, 0.95))
        body.append((strategy, budget or "none", len(outcomes), right, f"{tokens:.0f}", *(f"{s:.3g}" for s in seconds)))
    return table(("strategy", "budget", "questions", "accuracy", "tokens", "s (p50)", "s (p95)"), body)


def _examples(pool: Pool) -> str:
    """A few questions with what the greedy answer and the majority were: those that they disagree on first."""
    greedy, samples = pool.greedy, pool.samples
    body = []
    for q in range(len(pool)):
        code = samples.code[q]
        given = code[code >= 0]
        leader = int(np.bincount(given).argmax()) if len(given) else -1
        at = int((code == leader).argmax())
        share = float((code == leader).mean()) if leader >= 0 else 0.0
        said = samples.answer[q, at] if leader >= 0 else ""
        right = ("right" if samples.right[q, at] else "wrong") if leader >= 0 else "no answer"
        first = "right" if greedy.right[q, 0] else "wrong"
        row = (pool.questions[q], f"{greedy.answer[q, 0]}"[:120], first, f"{said}"[:120], f"{share:.0%}", right)
        body.append((first == right, row))
    body.sort(key=lambda one: one[0])
    head = ("question", "greedy answer", "", "most frequent answer", "share", "")
    return section("Some answers", table(head, [row for _, row in body[:EXAMPLES]]))
