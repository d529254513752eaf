"""``fathom explore``: the depth × width plane of a recursive checkpoint, measured and drawn."""

from __future__ import annotations

from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from fathom.cli.output import to_json
from fathom.errors import SpecError, one_of

if TYPE_CHECKING:
    from fathom.recursive.plane import Plane, Selection

__all__ = ["explore"]

PATHS = 24
"""Latent trajectories that are drawn."""
SELECTIONS: tuple[Selection, ...] = ("sample", "vote", "value", "valid")


def explore(
    checkpoint: Annotated[str, typer.Argument(help="A shipped checkpoint's name, or a file; see `fathom models`.")],
    depth: Annotated[int, typer.Option(help="Supervision steps at most.")] = 16,
    width: Annotated[int, typer.Option(help="Trajectories at most.")] = 16,
    inputs: Annotated[int, typer.Option(help="Held-out puzzles.")] = 64,
    select_by: Annotated[str, typer.Option("--select", help="What is drawn: sample, vote, value or valid.")] = "vote",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The picture, PNG or SVG.", show_default="NAME-plane.png")
    ] = None,
    noise: Annotated[
        float | None, typer.Option(help="σ of the noise that makes a deterministic model, a trm, sample: a PTRM.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all that is drawn at random.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads of the processor; one is often fastest.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="For machines; no picture unless --out asks for one.")] = False,
) -> None:
    """What depth and width buy a recursive model, and what they cost here: accuracy, compute, latency, memory.

    Every puzzle's trajectories are sampled once and recorded at every depth. What counts as the answer: that of any one
    (sample), the most frequent (vote), the value head's choice (value), or one that keeps the constraints (valid).

    [bold]Examples[/bold]

    fathom explore queens-8

    fathom explore sudoku-6 --depth 64 --width 32 --inputs 200 --out plane.svg

    fathom explore queens-8-trm --noise 0.6 --select value

    fathom explore my-run/checkpoint.safetensors --json
    """
    select = _selection(select_by)
    import torch

    from fathom.recursive.curves import require_picture
    from fathom.recursive.library import find_checkpoint, open_checkpoint
    from fathom.recursive.plane import held_out, latent_paths, measure_plane

    name = find_checkpoint(checkpoint).stem
    if out is None and not json and find_spec("matplotlib") is not None:
        out = Path(f"{name}-plane.png" if noise is None else f"{name}-noise-{noise:g}-plane.png")
    if out is not None:
        require_picture(out, "a plane")
    torch.set_num_threads(max(1, threads))
    loaded, task = open_checkpoint(checkpoint, noise=noise)
    if noise is not None:
        name = f"{name}(noise={noise:g})"
    console = Console(stderr=True)
    with console.status(f"{inputs} puzzles, {width} trajectories each, {depth} steps …"):
        plane = measure_plane(loaded, task, name=name, depth=depth, width=width, inputs=inputs, seed=seed)
        if out is not None:
            from fathom.recursive.plane_figure import draw_plane

            paths = latent_paths(loaded.model, task, held_out(task, 1)[0], width=PATHS, depth=depth, seed=seed)
            draw_plane(plane, paths, out, select)
    if json:
        print(to_json({**asdict(plane), "picture": None if out is None else str(out)}))
        return
    Console().print(_table(plane, select))
    if out is not None:
        console.print(f"drawn: {out}")


def _selection(name: str) -> Selection:
    for selection in SELECTIONS:
        if name == selection:
            return selection
    raise SpecError(one_of("selection", name, SELECTIONS))


def _table(plane: Plane, select: Selection) -> Table:
    title = f"{plane.checkpoint}: right answers of {plane.inputs} puzzles, %"
    table = Table(title=title, box=None, pad_edge=False)
    for name in ("depth", "width", *SELECTIONS, "GFLOP", "ms", "kB"):
        table.add_column(f"{name} [95 %]" if name == select else name, justify="right", no_wrap=True)
    for cell in plane.cells:
        shares = [
            str(cell.share(name)) if name == select else f"{100 * cell.share(name).value:.1f}" for name in SELECTIONS
        ]
        costs = f"{cell.flops / 1e9:.2g}", f"{1e3 * cell.seconds:.3g}", f"{cell.memory_bytes / 1e3:.0f}"
        table.add_row(str(cell.depth), str(cell.width), *shares, *costs)
    return table
