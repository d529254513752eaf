"""Checkpoints: a safetensors file of the averaged weights whose metadata says what the model is, how it was trained and
how good it is.

A *training state*, from which a run resumes, is another file and never shipped. Both are written to a temporary name
and renamed, so that a killed process leaves the old one or the new one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fathom.errors import InputError, ModelFileError
from fathom.recursive.config import ModelConfig, Shape, TrainConfig
from fathom.recursive.model import RecursiveModel

__all__ = ["Checkpoint", "load_checkpoint", "load_state", "save_checkpoint", "save_state"]

VERSION = 1


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
    _replace(path, save(weights, {"fathom": json.dumps(about)}))


def load_checkpoint(path: Path, task: str | None = None, device: str = "cpu") -> Checkpoint:
    """The checkpoint at ``path``, in float32, ready for inference.

    Raises ``ModelFileError`` where the file is missing, damaged, no checkpoint of this package, of another version, or,
    with ``task``, trained for another task.
    """
    try:
        with safe_open(path, "pt", device=device) as file:
            about = json.loads((file.metadata() or {}).get("fathom", "null"))
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelFileError(f"{path} is missing or damaged: {error}. Train it again or fetch it anew.") from error
    if not isinstance(about, dict) or "version" not in about:
        raise ModelFileError(f"{path} is a safetensors file, but no recursive checkpoint: it has no 'fathom' metadata")
    if about["version"] != VERSION:
        raise ModelFileError(
            f"{path} is of checkpoint version {about['version']}; this package reads version {VERSION}"
        )
    if task is not None and about.get("task") != task:
        raise ModelFileError(f"{path} was trained for {about.get('task')!r}, not for {task!r}")
    try:
        training = about["training"]
        model = RecursiveModel(ModelConfig(**about["model"]), Shape(**about["shape"]))
        model.load_state_dict(weights)
        checkpoint = Checkpoint(about["task"], model, TrainConfig(**training), about["step"], dict(about["metrics"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelFileError(f"{path} is damaged: its weights or settings do not form a model ({error})") from error
    model.to(device).requires_grad_(False).eval()
    return checkpoint


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write a training state."""
    temporary = path.with_suffix(".tmp")
    torch.save(dict(state), temporary)
    os.replace(temporary, path)


def load_state(path: Path, device: str = "cpu") -> dict[str, Any]:
    """The training state at ``path``. Raises ``InputError`` where it cannot be read."""
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises as many kinds as there are ways to be damaged
        raise InputError(
            f"{path} is no training state that can be resumed: {error}. Remove it to start over."
        ) from error
    return state


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
