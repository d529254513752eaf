"""What a person sees while a run goes on: the clock against the deadline, and the tally of answers firming up."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.progress_bar import ProgressBar
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from fathom.cli.output import effort, receipt_line
from fathom.language.download import Progress as DownloadProgress
from fathom.records import Candidate, Result, Update
from fathom.run import Run

__all__ = ["Display", "download_progress"]

REFRESH = 0.1
SHOWN = 6


class Display:
    """Follows a run on the terminal. What is shown last stays: the answer, its tally, and the receipt in one line."""

    def __init__(self, run: Run, console: Console | None = None) -> None:
        self.run = run
        self.console = console or Console()
        self._live = Live(console=self.console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    async def follow(self) -> Result:
        """Show the run until it ends."""
        result: Result | None = None
        async for update in self.run.updates(every=REFRESH):
            if update.final is None:
                self._live.update(self._picture(update), refresh=True)
            result = update.final
        assert result is not None, "the last update has the result"
        self._live.update(Text(""), refresh=True)
        self._live.stop()
        self.console.print(self._ending(result))
        return result

    def _picture(self, update: Update) -> RenderableType:
        return Group(self._clock(update), _tally(update.candidates, update.running))

    def _clock(self, update: Update) -> RenderableType:
        elapsed, limit = update.spent.seconds, self.run.meter.limits.get("seconds", math.inf)
        grid = Table.grid(padding=(0, 1))
        said = f"{elapsed:5.1f} s" if math.isinf(limit) else f"{elapsed:5.1f} s of {limit:g} s"
        bar: RenderableType = Text("") if math.isinf(limit) else ProgressBar(limit, min(elapsed, limit), width=30)
        grid.add_row(Text(said, style="bold"), bar, Text(effort(update.spent), style="dim"))
        return grid

    def _ending(self, result: Result) -> RenderableType:
        receipt = result.receipt
        parts: list[RenderableType] = []
        if "\n" in result.answer and receipt.spent.tokens:
            parts.append(Syntax(result.answer, "python", background_color="default"))
        else:
            parts.append(Text(result.answer, style="bold green"))
        if len(receipt.candidates) > 1 and "\n" not in result.answer:
            parts.append(_tally(receipt.candidates, 0))
        parts += [Text(f"note: {note}", style="yellow") for note in receipt.notes]
        parts.append(Text(receipt_line(receipt), style="dim"))
        return Group(*parts)


def _tally(candidates: tuple[Candidate, ...], running: int) -> Table:
    grid = Table.grid(padding=(0, 1))
    most = max((c.votes for c in candidates), default=1) or 1
    for index, candidate in enumerate(candidates[:SHOWN]):
        line = candidate.answer.strip().replace("\n", "⏎")
        bar = "█" * max(1, round(20 * candidate.votes / most)) if candidate.votes else ""
        score = "" if candidate.score is None else f"score {candidate.score:.2f}"
        style = "green" if index == 0 else "dim"
        grid.add_row(
            Text(line[:40], style=style), Text(f"{bar} {candidate.votes:g}", style=style), Text(score, style="dim")
        )
    if len(candidates) > SHOWN:
        grid.add_row(Text(f"and {len(candidates) - SHOWN} more", style="dim"))
    if running:
        grid.add_row(Text(f"{running} thinking …", style="dim"))
    return grid


@contextmanager
def download_progress() -> Iterator[DownloadProgress]:
    """A callback for downloads that draws a bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=console
    )
    task: list[object] = []

    def report(done_bytes: int, total_bytes: int, source: str) -> None:
        if not sys.stderr.isatty():
            return
        if not task:
            bar.start()
            task.append(bar.add_task("fetching the model", total=total_bytes))
        bar.update(task[0], completed=done_bytes, description=f"fetching the model ({source})")  # type: ignore[arg-type]

    try:
        yield report
    finally:
        if task:
            bar.stop()
