"""Settings shrunk for tests: a few thousand parameters, so that a training step takes milliseconds."""

from __future__ import annotations

from typing import Any

from fathom.recursive.config import ModelConfig, TrainConfig, settings

SMALL = {"width": 16, "heads": 2, "ffn": 32, "mixer": 24, "supervision": 3, "batch": 16, "head_steps": 4, "warmup": 2}
elastic: dict[str, Any] = {
    "steps": 40,
    "batch": 12,
    "mode": "paper",
    "learning_rate": 1e-4,
    "validate_every": 10,
    "head_steps": 4,
    "save_every": 0.0,
}
"""A run that one, two or three processes can share."""


def tiny(preset: str = "gram", **overrides: object) -> tuple[ModelConfig, TrainConfig]:
    """Settings of ``preset`` shrunk for tests."""
    return settings(preset, **{**SMALL, "validation_inputs": 8, "validation_samples": 2, **overrides})
