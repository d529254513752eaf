"""``fathom strategies``: every strategy and judge with its options, defaults and source."""

from __future__ import annotations

from dataclasses import MISSING, Field
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fathom.cli.output import to_json
from fathom.judges.registry import JUDGES
from fathom.search import STRATEGIES
from fathom.specs import Entry, Registry

__all__ = ["strategies"]


def strategies(json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
    """Every strategy and judge with its options, their defaults, and the paper it follows.

    [bold]Examples[/bold]

    fathom strategies

    fathom strategies --json
    """
    registries: dict[str, Registry[Any]] = {"strategies": STRATEGIES, "judges": JUDGES}
    if json:
        print(to_json({name: [_plain(entry) for entry in registry] for name, registry in registries.items()}))
        return
    console = Console()
    for name, registry in registries.items():
        console.rule(name, align="left")
        for entry in registry:
            console.print(Text.assemble((entry.name, "bold green"), f"  {entry.summary}. ", (entry.source, "dim")))
            grid = Table.grid(padding=(0, 2))
            for column in _plain(entry)["options"]:
                default = "" if column["default"] is None else f"={column['default']}"
                grid.add_row(f"  {column['name']}{default}", Text(column["help"], style="dim"))
            console.print(grid)


def _plain(entry: Entry[Any]) -> dict[str, Any]:
    return {
        "name": entry.name,
        "summary": entry.summary,
        "source": entry.source,
        "options": [
            {"name": o.name, "default": _default(o), "help": o.metadata.get("help", "")} for o in entry.options
        ],
    }


def _default(of: Field[Any]) -> Any:
    if of.default is not MISSING:
        return of.default if isinstance(of.default, int | float | str | None) else str(of.default)
    return "required" if of.default_factory is MISSING else str(of.default_factory())
