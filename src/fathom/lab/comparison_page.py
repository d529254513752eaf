"""The page of a comparison: accuracy against each cost, the frontier, and the exchange rates in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fathom.errors import FathomError
from fathom.lab import figures
from fathom.lab.compare import COSTS, Contender, Mark, frontier
from fathom.lab.page import figure, page, paragraph, section, table
from fathom.lab.rates import HALVINGS, TOLERANCE, Exchange
from fathom.lab.statistics import RESAMPLES

__all__ = ["compared"]

_LABELS = {"flops": "FLOPs a question", "seconds": "seconds a question", "dollars": "US dollars a question"}


def compared(found: Sequence[Contender], rates: Sequence[Exchange], out: Path) -> Path:
    """Write the page to ``out`` and return it. Raises FathomError where that cannot be."""
    pool = found[0].pools[0]
    sizes = ", ".join(f"{c.name}{_size(c)}" for c in found)
    intro = f"{len(pool)} questions of {pool.sweep.terms.dataset}, answered by {sizes}."
    parts = [paragraph(intro), section("Exchange rates", *(paragraph(str(rate)) for rate in rates), _method())]
    for cost in COSTS:
        if marks := frontier(found, cost):
            parts.append(section(f"Accuracy against {cost}", _drawn(found, marks, cost), _table(marks)))
    text = page(f"Fathom: {pool.sweep.terms.dataset}", parts)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, "utf-8")
    except OSError as error:
        raise FathomError(f"cannot write {out}: {error}") from None
    return out


def _size(contender: Contender) -> str:
    parameters = contender.pools[0].parameters
    return f" ({parameters:.3g} parameters)" if parameters else ""


def _method() -> str:
    return paragraph(
        f"The cheapest point that suffices is chosen on one half of the questions and counted on the other, both ways "
        f"round, over {HALVINGS} random halvings. A rate is stated where most of them have such a point on both "
        f"halves, and it is right as often on the other questions, to within {TOLERANCE:.0%}. Its interval: 95 % over "
        f"{RESAMPLES:,} bootstrap resamples of the questions, each halved anew. FLOPs are 2 a parameter and token, the "
        f"prompt read once. Strategies whose judge's cost is not known are left out."
    )


def _drawn(found: Sequence[Contender], marks: Sequence[Mark], cost: str) -> str:
    points = {c.name: [(m.cost, m.accuracy, m.on_frontier) for m in marks if m.model == c.name] for c in found}
    best = [(m.cost, m.accuracy.value) for m in marks if m.on_frontier]
    drawn = figures.scatter(points, _LABELS[cost], best)
    return figure(figures.rendered(drawn, "svg"), "Grey: another point costs less and is right as often.")


def _table(marks: Sequence[Mark]) -> str:
    head = ("on the frontier", "strategy", "width", "depth", "cost", "accuracy")
    return table(
        head,
        [
            (m.model, m.strategy, m.width, "-" if m.depth is None else m.depth, f"{m.cost:.3g}", m.accuracy)
            for m in marks
            if m.on_frontier
        ],
    )
