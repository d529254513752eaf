"""``fathom compare``: what inference compute is worth in model size."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fathom.cli.output import to_json

__all__ = ["compare"]


def compare(
    directories: Annotated[list[Path], typer.Argument(help="Sweeps of several models on the same questions.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("compare.html"),
    json: Annotated[bool, typer.Option("--json", help="Print the frontier and the rates instead.")] = False,
) -> None:
    """What inference compute is worth in model size.

    Accuracy against total FLOPs, seconds and dollars, over all models and strategies; and the exchange rate: how many
    times its own compute a smaller model needs to match a larger one's greedy answer, or that it never does.

    [bold]Examples[/bold]

    fathom compare runs/sums-0.5b runs/sums-1.5b -o runs/sums.html

    fathom compare runs/sums-0.5b runs/sums-1.5b --json
    """
    from fathom.lab.compare import COSTS, contenders, frontier
    from fathom.lab.rates import exchange

    found = contenders(directories)
    rates = [
        rate
        for cost in COSTS
        for at, larger in enumerate(found)
        for smaller in found[:at]
        if (rate := exchange(smaller, larger, cost)) is not None
    ]
    if json:
        marks = {cost: [asdict(mark) for mark in frontier(found, cost)] for cost in COSTS}
        print(to_json({"frontier": marks, "exchange": [rate.told for rate in rates]}))
        return
    from fathom.lab.comparison_page import compared

    for rate in rates:
        print(rate)
    print(compared(found, rates, out))
