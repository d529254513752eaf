"""``fathom solve``: answer one question within a budget, live."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fathom.api import prepare_run
from fathom.budget import Budget
from fathom.cli.live import Display, download_progress
from fathom.cli.options import ModelOption
from fathom.cli.output import receipt_line, to_json
from fathom.errors import InputError, NoAnswer, UsageError
from fathom.models import open_model
from fathom.records import Result
from fathom.run import Run
from fathom.specs import Spec

__all__ = ["solve"]

_EPILOG = """[bold]Examples[/bold]

fathom solve "What is 17 * 23?" --within 5s

fathom solve "Is 2027 prime?" --strategy "vote(width=8, sure=0.99)" --json

fathom solve --file task.py --verify tests --width 8

fathom solve --model recursive:queens-8 "Q......./......../......../......../......../......../......../........"

echo "What is 15% of 80?" | fathom solve --model openai:qwen3@http://localhost:8000/v1 --tokens 4000
"""


def solve(
    prompt: Annotated[str | None, typer.Argument(help="The question; '-' or nothing reads standard input.")] = None,
    model: ModelOption = "embedded",
    strategy: Annotated[str | None, typer.Option("--strategy", "-s", help="See `fathom strategies`.")] = None,
    within: Annotated[str | None, typer.Option(help="Deadline: 150ms, 2s, 1m30s.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Generated tokens at most, of all roles.")] = None,
    width: Annotated[int | None, typer.Option(help="Trajectories at most.")] = None,
    depth: Annotated[
        int | None, typer.Option(help="Reasoning tokens or steps of each at most; 0: no reasoning.")
    ] = None,
    cost: Annotated[float | None, typer.Option(help="US dollars at most.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory of all trajectories at most: 512MB, 2GiB.")] = None,
    calls: Annotated[int | None, typer.Option(help="Model calls at most.")] = None,
    verify: Annotated[
        str | None, typer.Option(help="A judge that decides when an answer is right, e.g. tests.")
    ] = None,
    profile: Annotated[Path | None, typer.Option(help="What auto plans from, see `fathom calibrate`.")] = None,
    answer: Annotated[str | None, typer.Option(help="What the answer is: short, code, or text (all of it).")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same samples where the engine allows it.")] = 0,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the question from a file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the whole receipt as JSON.")] = False,
) -> None:
    """Answer one question as well as the budget allows, and say what it cost."""
    budget = Budget(
        seconds=within, tokens=tokens, width=width, depth=depth, cost=cost, memory_bytes=memory, calls=calls
    )
    question = _read(prompt, file)
    if profile is not None:
        if strategy is not None:
            raise UsageError("a profile is what auto plans from: give --profile without --strategy")
        strategy = str(Spec("auto", {"profile": str(profile)}))
    options = {"strategy": strategy, "budget": budget, "verify": verify, "seed": seed}
    quiet = json or not sys.stdout.isatty()
    try:
        result, interrupted = asyncio.run(_solve(model, question, answer, options, quiet=quiet))
    except NoAnswer as error:
        if json and error.receipt is not None:
            print(to_json(error.receipt))
        raise
    if json:
        print(to_json(result.receipt))
    elif not sys.stdout.isatty():
        print(result.answer)
        print(receipt_line(result.receipt), file=sys.stderr)
    if interrupted:
        raise SystemExit(130)


solve.__doc__ = f"{solve.__doc__}\n\n{_EPILOG}"


def _read(prompt: str | None, file: Path | None) -> str:
    if file is not None:
        if prompt is not None:
            raise UsageError("give the question either as an argument or as a file, not both")
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {file}: {error}") from None
    if prompt is None or prompt == "-":
        if sys.stdin.isatty():
            raise UsageError("no question: give it as an argument, with --file, or on standard input")
        return _decoded(sys.stdin.buffer.read(), "standard input")
    return _decoded(os.fsencode(prompt), "the question")


def _decoded(text: bytes, where: str) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not UTF-8: {error}") from None


async def _solve(
    uri: str, question: str, form: str | None, options: dict[str, Any], *, quiet: bool
) -> tuple[Result, bool]:
    with download_progress() as progress:
        model = await open_model(uri, progress=progress, **({"form": form} if form else {}))
    try:
        run = await prepare_run(model, question, **options)
        interrupted = _stop_on_interrupt(run)
        try:
            if quiet:
                return await run.finish(), interrupted.is_set()
            with Display(run) as display:
                result = await display.follow()
            return result, interrupted.is_set()
        except NoAnswer:
            if interrupted.is_set():
                raise KeyboardInterrupt from None
            raise
    finally:
        await model.aclose()


def _stop_on_interrupt(run: Run) -> asyncio.Event:
    """The first Ctrl-C ends the run with the best answer so far; the second one ends the program."""
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        interrupted.set()
        run.stop()

    def handle(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        loop.call_soon_threadsafe(stop)

    signal.signal(signal.SIGINT, handle)
    return interrupted
