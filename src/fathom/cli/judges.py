"""``fathom judges``: what judges are worth on attempts whose correctness is known."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fathom import portal
from fathom.cli.output import to_json
from fathom.judges.base import judge_needs
from fathom.judges.calibration import Calibration, calibrate, load_labelled
from fathom.judges.registry import JUDGES
from fathom.models import open_model
from fathom.reasoner import Capability

__all__ = ["judges"]


def judges(
    dataset: Annotated[Path, typer.Argument(help="JSON lines: a question and its labelled candidates on each.")],
    judge: Annotated[list[str], typer.Option(help="The judge's spec; give several to compare them.")],
    model: Annotated[str, typer.Option(help="Who judges where a judge asks the run's own model.")] = "embedded",
    json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """How well judges tell right answers from wrong ones, and what a judgement costs.

    A line of the dataset is {"question": "…", "candidates": [{"text": "…", "answer": "…", "correct": true}, …]}.
    AUC is the chance that a right answer scores above a wrong one; 0.5 is a coin.

    [bold]Examples[/bold]

    fathom judges attempts.jsonl --judge llm --judge "llm(mode=pairwise)"

    fathom judges attempts.jsonl --judge arithmetic --json
    """
    found = portal.call(_calibrated(dataset, judge, model))
    if json:
        print(to_json([asdict(row) for row in found]))
        return
    table = Table("judge", "AUC within", "AUC pooled", "judged", "no verdict", "s each", "tokens each", "read each")
    for row in found:
        each = max(1, row.judged + row.unjudged)
        spent = (f"{row.seconds / each:.3g}", f"{row.tokens / each:.3g}", f"{row.prompt_tokens / each:.3g}")
        table.add_row(
            row.judge, _shown(row.auc_within), _shown(row.auc_pooled), str(row.judged), str(row.unjudged), *spent
        )
    Console().print(table)


async def _calibrated(dataset: Path, specs: list[str], uri: str) -> list[Calibration]:
    data = load_labelled(dataset)
    built = [(spec, JUDGES.build(spec)) for spec in specs]
    needed = any(Capability.WORDS in judge_needs(one) for _, one in built)
    model = await open_model(uri) if needed else None
    try:
        return [await calibrate(spec, one, data, model) for spec, one in built]
    finally:
        if model is not None:
            await model.aclose()


def _shown(auc: float | None) -> str:
    return "-" if auc is None else f"{auc:.3f}"
