"""``fathom train``: train a recursive model, resumable at any moment."""

from __future__ import annotations

import json as json_format
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from fathom.cli.output import to_json
from fathom.errors import UsageError, one_of

if TYPE_CHECKING:
    from fathom.recursive.checkpoint import Checkpoint
    from fathom.recursive.config import ModelConfig, TrainConfig
    from fathom.recursive.tasks import Task
    from fathom.recursive.training_run import Progress

__all__ = ["train"]

MINUTES = 10.0
FIGURES = {
    "reconstruction": "cross-entropy",
    "kl_first_step": "KL of the first step",
    "accuracy_first_step": "right after 1 step",
    "accuracy": "right",
    "coverage": "coverage",
}


def train(
    task: Annotated[str, typer.Argument(help="What to train on: queens-8, sudoku-6, arc:PATH, mnist:PATH …")],
    preset: Annotated[str, typer.Option(help="The model: looped, hrm, trm or gram.")] = "gram",
    size: Annotated[str, typer.Option(help="micro, tiny, small or paper.")] = "tiny",
    minutes: Annotated[
        float | None, typer.Option(help="About how long: turned into steps by timing a few.", show_default="10")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps, in place of minutes; exactly repeatable.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of weights, data and noise.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The run's folder.", show_default="TASK-PRESET-SIZE")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder, if there is one.")
    ] = False,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting of model or training.")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="torch.compile the step: a minute to start, then 1.5 times as fast.")
    ] = False,
    curves: Annotated[
        Path | None,
        typer.Option(
            help="Draw the learning curves there: .png, .svg or .pdf.", show_default="curves.png in the folder"
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the checkpoint's metrics as JSON.")] = False,
) -> None:
    """Train a recursive model on a constraint problem.

    A run may be killed at any moment and loses less than a minute: the same command with --resume goes on with it, and
    on a CPU ends with the same bits. With more --steps it is lengthened, ended or not. Under torchrun the batch is
    divided among the processes, whose number may change when the run is resumed.

    [bold]Examples[/bold]

    fathom train queens-8 --minutes 10 -o runs/queens

    fathom train queens-8 --minutes 10 -o runs/queens --resume

    fathom train sudoku-6 --preset trm --steps 1500 --set mode=on-policy --set learning_rate=0.002

    fathom train sudoku-extreme:sudoku-extreme/ --preset trm --size paper --steps 50000

    torchrun --nproc-per-node=2 --no-python fathom train sudoku-9 --size paper --steps 50000
    """
    from fathom.recursive import training_run

    chosen = dict(_setting(text) for text in changes or ()) | {"seed": seed} | _given(steps=steps)
    if minutes is not None and "steps" in chosen:
        raise UsageError("say how long to train in minutes or in steps, not in both")
    folder, place, first = (
        out or Path(f"{_short(task)}-{preset}-{size}"),
        _device(device),
        os.environ.get("RANK", "0") == "0",
    )
    draw = _picture(curves, folder)
    opened, model, training = _settings(task, preset, size, chosen)
    found = _settings_of_run(folder, resume)
    if found is not None and "steps" not in chosen:
        training = replace(training, **{name: found[name] for name in training_run.PACED})
    elif "steps" not in chosen:
        seconds = 60 * (MINUTES if minutes is None else minutes)
        training = training_run.paced(seconds, opened, model, training, place, compiled)
    try:
        with _shown(quiet=not first) as progress, _interrupted() as stop:
            made = training_run.train(
                opened, model, training, folder, device=place, compiled=compiled, progress=progress, stop=stop
            )
    except KeyboardInterrupt:
        print(f"fathom: interrupted; the same command with --resume goes on with the run in {folder}", file=sys.stderr)
        raise SystemExit(130) from None
    if first:
        draw(f"{task}, {preset} {size}, seed {seed}")
        _report(made, folder / training_run.CHECKPOINT, json)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _settings(name: str, preset: str, size: str, chosen: Mapping[str, Any]) -> tuple[Task, ModelConfig, TrainConfig]:
    """The task, and what the options say of model and training."""
    from fathom.recursive.tasks import open_task, settings_for

    if preset == "ptrm":
        raise UsageError(
            "a ptrm is a trained trm with noise at inference: train --preset trm, then open its checkpoint with noise, "
            "as in recursive:PATH(noise=0.6)"
        )
    task = open_task(name)
    task.inputs("validation")  # a file that is none is known before anything is spent
    return task, *settings_for(task, preset, size, **chosen)


def _short(task: str) -> str:
    """What a run on that task is called: of ``arc:some/where/easy.json`` it is ``arc-easy``."""
    kind, _, path = task.partition(":")
    return f"{kind}-{Path(path).stem}" if path else kind


def _setting(text: str) -> tuple[str, Any]:
    """``name=value``, the value a number, true, false or a word."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"a setting is given as NAME=VALUE, not as {text!r}")
    try:
        return name, json_format.loads(value)
    except ValueError:
        return name, value


def _device(name: str) -> str:
    import torch

    from fathom.recursive.distributed import cuda_device

    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(one_of("device", name, ("auto", "cpu", "cuda")))
    cuda = torch.cuda.is_available()
    if name == "cuda" and not cuda:
        raise UsageError("no CUDA device was found here; train with --device cpu")
    if name == "cpu" or not cuda:
        # Threads beyond the cores that are free make small models slower, and their number changes the last bits.
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        return "cpu"
    place = cuda_device(os.environ, torch.cuda.device_count())
    torch.cuda.set_device(place)
    return place


def _settings_of_run(folder: Path, resume: bool) -> Mapping[str, Any] | None:
    from fathom.recursive.training_run import settings_of_run

    found = settings_of_run(folder)
    if found is not None and not resume:
        raise UsageError(f"{folder} holds a run already: go on with it by --resume, or choose another folder with -o")
    return found


def _picture(curves: Path | None, folder: Path) -> Callable[[str], None]:
    """What draws the learning curves under a title; nothing where nobody asked and matplotlib is absent."""
    from fathom.recursive.curves import draw_curves, require_picture
    from fathom.recursive.training_run import history_of

    if curves is not None:
        require_picture(curves)
    elif find_spec("matplotlib") is None:
        return lambda title: None
    return lambda title: draw_curves(history_of(folder), title, curves or folder / "curves.png")


@contextmanager
def _interrupted() -> Iterator[Callable[[], bool]]:
    """Tells whether Ctrl-C was pressed: the run saves its state and ends. The second one ends it at once."""
    pressed = []

    def handle(number: int, frame: object) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _shown(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Shows how a run goes on standard error: a line a validation, and on a terminal a bar that moves."""
    console = Console(stderr=True, quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, TextColumn("{task.fields[figures]}"), console=console, disable=not console.is_terminal) as bar:
        shown = {
            stage: bar.add_task(stage, total=None, visible=stage == "training", figures="")
            for stage in ("training", "heads")
        }

        def show(now: Progress) -> None:
            figures = _figures(now.averages) if now.stage == "training" else ""
            bar.update(shown[now.stage], completed=now.done, total=now.total, visible=True, figures=figures)
            if now.validated is not None:
                console.print(f"step {now.done}: {_figures(now.validated)}", highlight=False, soft_wrap=True)

        yield show


def _figures(entry: Mapping[str, float]) -> str:
    return ", ".join(f"{words} {entry[name]:.3f}" for name, words in FIGURES.items() if name in entry)


def _report(made: Checkpoint, file: Path, json: bool) -> None:
    parameters = sum(p.numel() for p in made.model.parameters())
    if json:
        print(to_json({"checkpoint": str(file), "step": made.step, "parameters": parameters, **made.metrics}))
        return
    metrics = made.metrics
    print(
        f"{file}: {parameters:,} parameters, step {made.step}; on the validation split {metrics['accuracy']:.1%} of "
        f"single samples right, coverage {metrics['coverage']:.1%}; halts after {metrics['halt_depth']:.1f} steps"
    )
