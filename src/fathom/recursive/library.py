"""The trained checkpoints that ship with the package, by name, and any other by its file, each with its task."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from fathom.errors import FathomError, LimitError, ModelFileError, UnknownModel, UsageError, one_of
from fathom.recursive.checkpoint import Checkpoint, load_checkpoint
from fathom.recursive.tasks import Task, open_task

__all__ = ["find_checkpoint", "open_checkpoint", "shipped"]


def shipped() -> dict[str, Path]:
    """The shipped checkpoints' files, by name."""
    folder = Path(str(files("fathom.recursive"))) / "checkpoints"
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}


def find_checkpoint(name_or_path: str) -> Path:
    """The file of a shipped checkpoint, or of one given as a path. Raises ``UnknownModel`` where there is neither."""
    known = shipped()
    if name_or_path in known:
        return known[name_or_path]
    path = Path(name_or_path)
    if path.suffix == ".safetensors" and path.is_file():
        return path
    raise UnknownModel(
        f"{one_of('recursive checkpoint', name_or_path, known)} A file is given by its path ending in .safetensors."
    )


def open_checkpoint(name_or_path: str, *, noise: float | None = None, device: str = "cpu") -> tuple[Checkpoint, Task]:
    """A checkpoint, shipped or in a file, and its task. With ``noise``, a deterministic one samples all the same: its
    σ is added to h before every supervision step (PTRM, arXiv 2605.19943).

    Raises ``UnknownModel``, which lists those that are shipped, ``ModelFileError`` for a file that cannot be used,
    ``LimitError`` for a noise that is none, and ``UsageError`` where the model draws from a prior of its own.
    """
    path = find_checkpoint(name_or_path)
    checkpoint = load_checkpoint(path, device=device)
    try:
        task = open_task(checkpoint.task)
    except FathomError as error:
        raise ModelFileError(f"{path} was trained for a task that is not known here: {error}") from error
    if task.shape != checkpoint.model.shape:
        raise ModelFileError(
            f"{path} is of another version of the task {task.name!r}: it reads and writes {checkpoint.model.shape}, "
            f"the task {task.shape}"
        )
    if noise is None:
        return checkpoint, task
    if type(noise) not in (int, float) or not 0 <= noise < math.inf:
        raise LimitError("noise", f"noise is a standard deviation, a number of at least 0, not {noise!r}")
    if checkpoint.model.config.stochastic:
        raise UsageError(
            f"{name_or_path} draws from a prior of its own; noise is for deterministic models, such as queens-8-trm"
        )
    return replace(checkpoint, model=checkpoint.model.with_settings(noise=float(noise))), task
