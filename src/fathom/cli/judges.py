"""``fathom judges``: what judges are worth on attempts whose correctness is known."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fathom import portal
from fathom.cli.output import to_json
from fathom.judges.base import Verifier, judge_needs
from fathom.judges.calibration import Calibration, Labelled, calibrate, load_labelled
from fathom.judges.registry import JUDGES
from fathom.models import open_model
from fathom.reasoner import Capability, Reasoner
from fathom.team import in_form

__all__ = ["judges"]


def judges(
    dataset: Annotated[
        str,
        typer.Argument(
            help="A file of labelled attempts, a question with its candidates on each line; or a dataset by its spec, "
            "such as arithmetic:20, which the model then attempts itself."
        ),
    ],
    judge: Annotated[list[str], typer.Option(help="The judge's spec; give several to compare them.")],
    model: Annotated[
        str, typer.Option(help="Who attempts a dataset, and judges where a judge asks the run's own model.")
    ] = "embedded",
    attempts: Annotated[int, typer.Option(min=1, help="Attempts at each question of a dataset.")] = 4,
    depth: Annotated[int, typer.Option(min=0, help="Tokens of reasoning of an attempt at most.")] = 256,
    seed: Annotated[int, typer.Option(help="For the questions that are generated, and the attempts.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """How well judges tell right answers from wrong ones, and what a judgement costs.

    A line of a file is {"question": "…", "candidates": [{"text": "…", "answer": "…", "correct": true}, …]}.
    AUC is the chance that a right answer scores above a wrong one; 0.5 is a coin.

    [bold]Examples[/bold]

    fathom judges attempts.jsonl --judge llm --judge "llm(mode=pairwise)"

    fathom judges arithmetic:20 --judge llm --judge logprob --judge arithmetic
    """
    built = [(spec, JUDGES.build(spec)) for spec in judge]
    path = Path(dataset)
    if path.suffix == ".jsonl" or path.is_file():
        found = portal.call(_calibrated(built, model, load_labelled(path)))
    else:
        from fathom.lab.attempts import labelled_attempts
        from fathom.lab.datasets.named import load_dataset

        asked = load_dataset(dataset, seed=seed)

        async def attempt(answering: Reasoner) -> list[Labelled]:
            return await labelled_attempts(in_form(answering, asked.form), asked, attempts, depth=depth, seed=seed)

        found = portal.call(_calibrated(built, model, attempt))
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


async def _calibrated(
    judges: list[tuple[str, Verifier]],
    uri: str,
    data: list[Labelled] | Callable[[Reasoner], Awaitable[list[Labelled]]],
) -> list[Calibration]:
    """``data`` are attempts, or makes them with the model that the URI names."""
    if isinstance(data, list) and all(Capability.WORDS not in judge_needs(judge) for _, judge in judges):
        return [await calibrate(spec, judge, data) for spec, judge in judges]
    model = await open_model(uri)
    try:
        labelled = data if isinstance(data, list) else await data(model)
        return [await calibrate(spec, judge, labelled, model) for spec, judge in judges]
    finally:
        await model.aclose()


def _shown(auc: float | None) -> str:
    return "-" if auc is None else f"{auc:.3f}"
