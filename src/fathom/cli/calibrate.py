"""``fathom calibrate``: measure a model on a kind of question, and keep the profile that ``auto`` plans from."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from fathom.cli.live import download_progress
from fathom.cli.options import ModelArgument
from fathom.cli.output import to_json
from fathom.cli.sweep import shown
from fathom.models import open_model

if TYPE_CHECKING:
    from fathom.lab.progress import Progress
    from fathom.planning.profile import Profile

__all__ = ["calibrate"]


def calibrate(
    model: ModelArgument,
    dataset: Annotated[str, typer.Argument(help="A .jsonl or .csv file, arithmetic:N, reasoning-gym:NAME, …")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The profile's file (default: where auto looks).")
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="The directory of the sweep (default: in the cache).")] = None,
    samples: Annotated[int, typer.Option(help="Samples a question, 8 or more.")] = 16,
    questions: Annotated[int | None, typer.Option(help="Only the first so many questions.")] = None,
    seed: Annotated[int, typer.Option(help="Of generated questions and of all samples.")] = 0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out rows that do not parse.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the profile.")] = False,
) -> None:
    """Measure a model on a kind of question, and keep the profile that auto and `fathom plan` consult.

    Interrupt it at any time: the same command goes on where it was.

    [bold]Examples[/bold]

    fathom calibrate embedded arithmetic:50

    fathom calibrate embedded questions.jsonl --samples 16 -o runs/questions.json
    """
    from fathom.planning.profile import save

    try:
        with shown(quiet=json) as show:
            found = asyncio.run(_calibrate(model, dataset, keep, samples, questions, seed, skip_bad, show))
    except KeyboardInterrupt:
        print("fathom: interrupted; the same command goes on where it was", file=sys.stderr)
        raise SystemExit(130) from None
    path = save(found, out)
    if json:
        print(to_json(msgspec.to_builtins(found)))
    else:
        _show(found, path)


async def _calibrate(
    uri: str,
    dataset: str,
    keep: Path | None,
    samples: int,
    questions: int | None,
    seed: int,
    skip_bad: bool,
    show: Callable[[Progress], None],
) -> Profile:
    from fathom.lab import calibrate as lab
    from fathom.lab.datasets import load_dataset

    data = load_dataset(dataset, questions=questions, seed=seed, skip_bad=skip_bad)
    with download_progress() as progress:
        model = await open_model(uri, progress=progress)
    try:
        return await lab.calibrate(model, uri, data, keep, samples=samples, seed=seed, observe=show)
    finally:
        await model.aclose()


def _show(found: Profile, path: Path) -> None:
    console = Console()
    console.print(f"{found.label}, on {found.machine.get('cpu', 'this machine')}", highlight=False)
    table = Table("strategy", "right", "tokens", "seconds")
    for curve in found.curves:
        seconds = "-" if curve.seconds is None else f"{curve.seconds:.2g}"
        right = f"{curve.accuracy:.1%} [{curve.low:.1%}, {curve.high:.1%}]"
        table.add_row(curve.strategy, right, f"{curve.tokens:.0f}", seconds)
    console.print(table)
    agreement = Table("of 4 votes the leader has", "how often", "right now", "right after 16")
    for votes, often, now, then in found.difficulty():
        agreement.add_row(str(votes), f"{often:.0%}", f"{now:.0%}", f"{then:.0%}")
    console.print(agreement)
    console.print(f"kept in {path}", style="dim", markup=False, highlight=False)
