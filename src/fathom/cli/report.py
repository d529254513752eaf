"""``fathom report``: what a sweep says, as one page with figures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from fathom.cli.output import to_json

__all__ = ["report"]


def report(
    directory: Annotated[Path, typer.Argument(help="What `fathom sweep` was given as -o.")],
    json: Annotated[bool, typer.Option("--json", help="Print all numbers instead of writing the page.")] = False,
) -> None:
    """Score every strategy at every width from a sweep, and write report.html with its figures.

    [bold]Examples[/bold]

    fathom report runs/sums

    fathom report runs/sums --json
    """
    if json:
        from fathom.lab.pool import load_all
        from fathom.lab.scoring import baselines, score
        from fathom.lab.summary import rows

        found = []
        for pool in load_all(directory):
            said = {"sweep": pool.sweep.name, "depth": pool.depth, "questions": len(pool)}
            for row in rows(pool, [*baselines(pool), *score(pool)]):
                known = {name: getattr(row, name) for name in row.__slots__ if name != "accuracy"}
                accuracy = {"accuracy": row.accuracy.value, "low": row.accuracy.low, "high": row.accuracy.high}
                numbers = {name: _finite(value) for name, value in {**known, **accuracy}.items()}
                found.append({**said, **numbers})
        print(to_json(found))
        return
    from fathom.lab.report import report as write

    print(write(directory))


def _finite(value: object) -> object:
    """JSON has no infinity and no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
