"""``fathom plan``: what ``auto`` would run within a budget, what it expects of it, and what it would rather not."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from fathom.budget import Budget
from fathom.cli.live import download_progress
from fathom.cli.options import ModelOption
from fathom.cli.output import to_json
from fathom.judges.registry import make_judge
from fathom.models import open_model
from fathom.units import parse_duration

if TYPE_CHECKING:
    from fathom.planning.plan import Choice, Plan

__all__ = ["plan"]


def plan(
    prompt: Annotated[str | None, typer.Argument(help="The question (default: one of usual length).")] = None,
    model: ModelOption = "embedded",
    within: Annotated[str | None, typer.Option(help="Deadline: 150ms, 2s, 1m30s.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Generated tokens at most, of all roles.")] = None,
    width: Annotated[int | None, typer.Option(help="Trajectories at most.")] = None,
    depth: Annotated[int | None, typer.Option(help="Reasoning tokens or steps of each at most.")] = None,
    cost: Annotated[float | None, typer.Option(help="US dollars at most.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory of all trajectories at most: 512MB, 2GiB.")] = None,
    calls: Annotated[int | None, typer.Option(help="Model calls at most.")] = None,
    verify: Annotated[str | None, typer.Option(help="A judge that decides when an answer is right.")] = None,
    profile: Annotated[Path | None, typer.Option(help="A profile's file, see `fathom calibrate`.")] = None,
    queue: Annotated[str, typer.Option(help="Time that passes before anything begins: 500ms.")] = "0s",
    json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """What would be run within this budget, what is expected of it, and the two runners-up. Nothing is generated.

    [bold]Examples[/bold]

    fathom plan --within 2s

    fathom plan --model ladder:embedded --within 30s --json

    fathom plan --tokens 2000 --verify tests --profile runs/code.json
    """
    budget = Budget(
        seconds=within, tokens=tokens, width=width, depth=depth, cost=cost, memory_bytes=memory, calls=calls
    )
    found = asyncio.run(_plan(model, prompt, budget, verify, profile, parse_duration(queue)))
    if json:
        print(to_json(_plain(found)))
    else:
        _show(found)


async def _plan(
    uri: str, prompt: str | None, budget: Budget, verify: str | None, profile: Path | None, queue: float
) -> Plan:
    from fathom.planning.auto import Auto
    from fathom.planning.prepare import plan_for

    said = None if verify is None else Auto(judge=make_judge(verify))
    file = None if profile is None else str(profile)
    with download_progress() as progress:
        model = await open_model(uri, progress=progress)
    try:
        return await plan_for(model, budget, prompt=prompt, strategy=said, profile=file, queue_seconds=queue)
    finally:
        await model.aclose()


def _plain(found: Plan) -> dict[str, Any]:
    return {
        "choice": _choice(found.choice),
        "runners_up": [_choice(choice) for choice in found.runners_up],
        "limits": dict(found.limits),
        "fits": found.fits,
        "notes": list(found.notes),
    }


def _choice(choice: Choice) -> dict[str, Any]:
    expected = asdict(choice.prediction)
    expected.pop("most")
    return {
        "strategy": choice.strategy,
        "model": choice.model,
        "width": choice.width,
        "depth": choice.depth,
        "accuracy": choice.accuracy,
        "interval": list(choice.interval),
        **expected,
        "most": dict(choice.whole.most),
    }


def _show(found: Plan) -> None:
    """The plan and its runners-up; a column in which all say the same, or nothing, is left out."""
    console = Console()
    choices = (found.choice, *found.runners_up)
    columns = {
        "": ["would run", *("runner-up" for _ in found.runners_up)],
        "strategy": [choice.strategy for choice in choices],
        "model": [choice.model for choice in choices],
        "right": [f"{c.accuracy:.0%} [{c.interval[0]:.0%}, {c.interval[1]:.0%}]" for c in choices],
        "seconds": [_told(c.prediction.seconds, c.prediction.seconds_range, ".2g") for c in choices],
        "tokens": [_told(c.prediction.tokens, c.prediction.tokens_range, ".0f") for c in choices],
        "cost": ["" if c.prediction.dollars is None else f"${c.prediction.dollars:.2g}" for c in choices],
    }
    if len(set(columns["model"])) == 1:
        del columns["model"]
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    table = Table(*(Column(name, no_wrap=name == "strategy") for name in columns))
    for row, cells in enumerate(zip(*columns.values(), strict=True)):
        table.add_row(*cells, style="dim" if row else "bold")
    console.print(table)
    for note in found.notes:
        console.print(note, style="yellow", markup=False, highlight=False)


def _told(expected: float | None, middle: tuple[float, float] | None, form: str) -> str:
    """What is expected, and where eight runs of ten are to lie."""
    if expected is None:
        return ""
    return f"{expected:{form}}" + ("" if middle is None else f" [{middle[0]:{form}}, {middle[1]:{form}}]")
