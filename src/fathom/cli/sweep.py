"""``fathom sweep``: sample a model on a dataset once, and keep what every strategy can be scored from."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from fathom.budget import Budget
from fathom.cli.live import download_progress
from fathom.cli.options import ModelArgument
from fathom.cli.output import to_json
from fathom.errors import UsageError
from fathom.models import open_model

if TYPE_CHECKING:
    from fathom.lab.progress import Progress
    from fathom.lab.sweep import Job

__all__ = ["shown", "sweep"]


def sweep(
    model: ModelArgument,
    dataset: Annotated[str, typer.Argument(help="A .jsonl or .csv file, arithmetic:N, reasoning-gym:NAME, …")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The directory that keeps it all.")],
    samples: Annotated[int, typer.Option(help="Samples a question, beside the greedy answer.")] = 16,
    questions: Annotated[int | None, typer.Option(help="Only the first so many questions.")] = None,
    depth: Annotated[str | None, typer.Option(help="Depths to sample at, e.g. 64,256 (default: no limit).")] = None,
    seed: Annotated[int, typer.Option(help="Of generated questions and of all samples.")] = 0,
    judge: Annotated[list[str] | None, typer.Option(help="A judge of every answer; may be repeated.")] = None,
    live: Annotated[list[str] | None, typer.Option(help="A strategy to run live as well; may be repeated.")] = None,
    within: Annotated[str | None, typer.Option(help="Deadline of a live run: 2s.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Tokens of a live run at most.")] = None,
    parallel: Annotated[int | None, typer.Option(help="Questions under way at a time.")] = None,
    on: Annotated[str | None, typer.Option(help="A Ray cluster: ray, ray://HOST:10001 or HOST:6379.")] = None,
    workers: Annotated[int | None, typer.Option(help="Workers on the cluster (default: one a node).")] = None,
    name: Annotated[str | None, typer.Option(help="What the sweep is called in the directory.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out rows that do not parse.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Sample a model on a dataset once; `fathom report` then scores every strategy at every budget from it.

    Interrupt it at any time: the same command goes on where it was.

    [bold]Examples[/bold]

    fathom sweep embedded arithmetic:50 -o runs/sums --samples 16

    fathom sweep openai:qwen3@http://localhost:8000/v1 questions.jsonl -o runs/q --samples 64 --depth 256,1024

    fathom sweep embedded human-eval -o runs/code --questions 40 --judge tests --live "beam(judge=tests)" --within 20s

    fathom sweep embedded arithmetic:500 -o runs/sums --on ray://head:10001 --workers 16
    """
    from fathom.lab.sweep import Job, SweepOptions

    options = SweepOptions(
        samples=samples,
        depths=_depths(depth),
        seed=seed,
        judges=tuple(judge or ()),
        live=tuple(live or ()),
        budget=Budget(seconds=within, tokens=tokens),
        parallel=parallel or 0,
    )
    job = Job(model, dataset, options, questions, skip_bad)
    try:
        with shown(quiet=json) as show:
            if on is None:
                done = asyncio.run(_sweep(job, out, name, show))
            else:
                from fathom.lab.on_ray import sweep_on_ray

                address = None if on == "ray" else on
                done = asyncio.run(sweep_on_ray(job, out, name, address=address, workers=workers, observe=show))
    except KeyboardInterrupt:
        print("fathom: interrupted; the same command goes on where it was", file=sys.stderr)
        raise SystemExit(130) from None
    if json:
        print(to_json({"done": done.done, "total": done.total, "failed": done.failed, "spent": asdict(done.spent)}))
        return
    _summarise(done, out)


def _depths(text: str | None) -> tuple[int | None, ...]:
    if text is None:
        return (None,)
    try:
        found = [int(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"--depth takes whole numbers divided by commas, e.g. 64,256, not {text!r}") from None
    if min(found) < 0 or len(set(found)) < len(found):
        raise UsageError(f"--depth takes different numbers of at least 0, not {text!r}")
    return tuple(sorted(found))


async def _sweep(job: Job, out: Path, name: str | None, show: Callable[[Progress], None]) -> Progress:
    from fathom.lab.sweep import open_sweep

    data = job.load()
    if data.skipped:
        print(f"fathom: {len(data.skipped)} rows that do not parse were left out", file=sys.stderr)
    with download_progress() as progress:
        model = await open_model(job.uri, progress=progress)
    try:
        async with open_sweep(model, job.uri, data, out, name, job.options, show) as sweeper:
            show(sweeper.progress)
            return await sweeper.run()
    finally:
        await model.aclose()


@contextmanager
def shown(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar on standard error, where that is a terminal: how far, how long still, and what it has cost."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda progress: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("sampling", total=None, note="")

        def show(progress: Progress) -> None:
            bar.update(task, total=progress.total, completed=progress.done, note=_note(progress))

        yield show


def _note(progress: Progress) -> str:
    left, spent = progress.seconds_left, progress.spent
    parts = [f"{_duration(left)} left"] if left else []
    parts.append(f"{spent.tokens:,} tokens")
    if spent.cost:
        parts.append(f"${spent.cost:.4f}")
    if progress.failed:
        parts.append(f"{len(progress.failed)} failed")
    return " · ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _summarise(done: Progress, out: Path) -> None:
    console = Console()
    cost = f", ${done.spent.cost:.4f}" if done.spent.cost else ""
    console.print(
        f"{done.done} of {done.total} trajectories are in {out}: {done.spent.tokens:,} tokens{cost}", highlight=False
    )
    for question, error in list(done.failed.items())[:5]:
        console.print(f"question {question} failed: {error}", style="yellow", markup=False, highlight=False)
    if done.done < done.total:
        console.print("the same command draws what is missing", style="yellow")
    console.print(f"fathom report {out}", style="dim", markup=False)
