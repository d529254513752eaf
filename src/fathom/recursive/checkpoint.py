"""Checkpoints: a safetensors file of the averaged weights whose metadata says what the model is, how it was trained and
how good it is.

A *training state*, from which a run resumes, is another safetensors file, which holds all that the next step depends
on and is never shipped. Both are written to a temporary name and renamed, so that a killed process or a full disk
leaves the old one or the new one.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fathom.errors import FathomError, InputError, ModelFileError
from fathom.recursive.config import MOST_OF_ANYTHING, ModelConfig, Shape, TrainConfig, configured
from fathom.recursive.model import RecursiveModel

__all__ = [
    "Checkpoint",
    "load_checkpoint",
    "load_state",
    "optimizer_state",
    "restore_optimizer",
    "save_checkpoint",
    "save_state",
    "write",
]

VERSION = 1
_TENSOR = "tensor"
"""The key that stands for a tensor in a training state's metadata."""
_SHARES = ("accuracy", "accuracy_first_step", "coverage", "score", "halt_threshold", "halt_accuracy")
_RANGES = {**dict.fromkeys(_SHARES, (0.0, 1.0)), "halt_depth": (1.0, 1e6)}
"""Between which bounds a metric lies. What is not among them may be any number."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained model and what is known of it."""

    task: str
    model: RecursiveModel
    training: TrainConfig
    step: int
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Measured on the validation split, ``halt_threshold`` and ``halt_depth`` among it."""

    @property
    def halt_threshold(self) -> float:
        """The halt probability above which a trajectory may stop without loss of accuracy, calibrated on the validation
        split.
        """
        return float(self.metrics.get("halt_threshold", 1.0))


def save_checkpoint(checkpoint: Checkpoint, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write ``checkpoint`` with its weights as ``dtype``."""
    about = {
        "version": VERSION,
        "task": checkpoint.task,
        "shape": asdict(checkpoint.model.shape),
        "model": asdict(checkpoint.model.config),
        "training": asdict(checkpoint.training),
        "step": checkpoint.step,
        "metrics": dict(checkpoint.metrics),
    }
    weights = {name: tensor.to("cpu", dtype).contiguous() for name, tensor in checkpoint.model.state_dict().items()}
    write(path, save(weights, {"fathom": json.dumps(about)}))


def load_checkpoint(path: Path, task: str | None = None, device: str = "cpu") -> Checkpoint:
    """The checkpoint at ``path``, in float32, ready for inference.

    Raises ``ModelFileError`` where the file is missing, damaged, no checkpoint of this package, of another version, or,
    with ``task``, trained for another task.
    """
    try:
        with safe_open(path, "pt", device=device) as file:
            about = json.loads((file.metadata() or {}).get("fathom", "null"))
            _require_kind(about, path, task)
            try:
                return _checkpoint(about, file)
            except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
                raise ModelFileError(
                    f"{path} is damaged: its weights or settings do not form a model ({error})"
                ) from error
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is missing or damaged: {error}. Train it again or fetch it anew.") from error


def _require_kind(about: Any, path: Path, task: str | None) -> None:
    """Raise ``ModelFileError`` where a file's metadata is not that of a checkpoint, of this version, for ``task``."""
    if not isinstance(about, dict) or "version" not in about:
        raise ModelFileError(f"{path} is a safetensors file, but no recursive checkpoint: it has no 'fathom' metadata")
    if about["version"] != VERSION:
        raise ModelFileError(
            f"{path} is of checkpoint version {about['version']!s:.40}; this package reads version {VERSION}"
        )
    if task is not None and about.get("task") != task:
        raise ModelFileError(f"{path} was trained for {about.get('task')!r:.40}, not for {task!r}")


def _checkpoint(about: Mapping[str, Any], file: Any) -> Checkpoint:
    """What ``about`` says and the open ``file`` holds, whose weights are read once they are known to fit."""
    task, step = about["task"], about["step"]
    if not isinstance(task, str) or type(step) is not int or step < 0:
        raise ValueError(f"a task's name and a number of steps were expected, not {task!r:.40} and {step!r:.40}")
    training, metrics = configured(TrainConfig, about["training"]), _metrics(about["metrics"])
    model = RecursiveModel.outline(configured(ModelConfig, about["model"]), configured(Shape, about["shape"]))
    wanted = {name: list(weight.shape) for name, weight in model.state_dict().items()}
    found = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no dict
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ValueError(f"{name[:80]} is {found.get(name, 'absent')} in place of {wanted.get(name, 'absent')}")
    weights = {name: file.get_tensor(name).to(torch.float32, copy=True) for name in wanted}
    for name, weight in weights.items():
        if not bool(weight.isfinite().all()):
            raise ValueError(f"{name} holds what is no finite number")
    model.fill(weights)
    return Checkpoint(task, model.requires_grad_(False).eval(), training, step, metrics)


def _metrics(said: Any) -> dict[str, Any]:
    """The metrics that a file tells. Raises ``ValueError`` where one is no number that it could be."""
    if not isinstance(said, dict):
        raise ValueError("its metrics are no table")
    for name, value in said.items():
        low, high = _RANGES.get(name, (-math.inf, math.inf))
        number = type(value) in (int, float) and abs(value) <= MOST_OF_ANYTHING and low <= value <= high
        if not number and not (name == "lengthened" and _are_pairs(value)):
            raise ValueError(f"its metric {name[:80]} is {value!r:.40}, which cannot be")
    return said


def _are_pairs(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and [type(number) for number in pair] == [int, int] for pair in value
    )


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write a training state: dictionaries with string keys, nested at will, of tensors and of what JSON can say."""
    tensors: dict[str, Tensor] = {}
    plain = _without_tensors(state, "", tensors)
    write(path, save(tensors, {"fathom-state": json.dumps(plain)}))


def load_state(path: Path, device: str = "cpu") -> dict[str, Any]:
    """The training state at ``path``. Raises ``InputError`` where it cannot be read."""
    try:
        with safe_open(path, "pt", device=device) as file:
            plain = json.loads((file.metadata() or {})["fathom-state"])
            state: dict[str, Any] = _with_tensors(plain, file.get_tensor)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} is no training state that can be resumed: {error}. Remove it to start over."
        ) from error
    return state


def _without_tensors(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """``value`` with each tensor put into ``tensors`` and replaced by its name there."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous()
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        return {key: _without_tensors(inner, f"{name}/{key}", tensors) for key, inner in value.items()}
    return value


def _with_tensors(value: Any, tensor: Callable[[str], Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    if value.keys() == {_TENSOR}:
        return tensor(value[_TENSOR])
    return {key: _with_tensors(inner, tensor) for key, inner in value.items()}


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What ``optimizer`` remembers of each parameter, as a training state holds it."""
    return {str(number): memory for number, memory in optimizer.state_dict()["state"].items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Give ``optimizer`` the memory that :func:`optimizer_state` told; its settings stay."""
    memory = {int(number): memory for number, memory in state.items()}
    optimizer.load_state_dict({"state": memory, "param_groups": optimizer.state_dict()["param_groups"]})


def write(path: Path, content: bytes) -> None:
    """Replace the file at ``path`` by ``content`` as a whole. Raises ``FathomError`` where the disk does not take
    it.
    """
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise FathomError(
            f"{path} could not be written ({error.strerror}); what it held before is still there"
        ) from error
