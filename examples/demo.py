"""One question, answered by a real model on this machine within about 1, 5 and 20 seconds: watch the answer firm up.

Run it with ``make demo``, or with a question of your own: ``python examples/demo.py "What is 17 * 23?"``
"""

from __future__ import annotations

import asyncio
import sys

from rich.console import Console
from rich.text import Text

from fathom import Budget, LimitError, NoAnswer, prepare_run
from fathom.cli.live import Display, download_progress
from fathom.models import open_model

QUESTION = "What is 24 * 7 - 63?"
DEADLINES = ("1s", "5s", "20s")


async def main(question: str) -> None:
    console = Console()
    with download_progress() as progress:
        model = await open_model("embedded", progress=progress)
    try:
        console.print(Text(question, style="bold"))
        for deadline in DEADLINES:
            console.rule(f"within {deadline}", align="left")
            run = await prepare_run(
                model, question, strategy="vote(width=16, greedy=true)", budget=Budget(seconds=deadline)
            )
            try:
                with Display(run, console) as display:
                    await display.follow()
            except (NoAnswer, LimitError) as error:  # a machine too slow for the shortest deadline
                console.print(Text(str(error), style="yellow"))
    finally:
        await model.aclose()


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or QUESTION))
