"""``fathom models``: what can be opened here, what each can do, and what is missing for the rest."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from fathom.cli.output import to_json
from fathom.models import available

__all__ = ["models"]


def models(json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
    """What can be opened here, what each model can do, and what is missing for the rest.

    [bold]Examples[/bold]

    fathom models

    fathom models --json
    """
    found = available()
    if json:
        print(to_json(found))
        return
    console = Console()
    for row in found:
        style = "green" if row["state"] == "ready" else "yellow"
        console.print(Text.assemble((row["uri"], "bold"), "  ", (row["state"], style)))
        console.print(Padding(Text(f"{row['summary']} Can: {row['can']}.", style="dim"), (0, 0, 0, 4)))
        if row.get("pace"):
            console.print(Padding(Text(f"Here: {row['pace']}.", style="dim"), (0, 0, 0, 4)))
