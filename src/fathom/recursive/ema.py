"""The moving average of a model's weights, which is what is validated and shipped (TRM: "more stable and less prone to
overfit").
"""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["decay_at", "update"]


def decay_at(step: int, limit: float) -> float:
    """The average's decay after ``step`` updates: warmed up, so that the first weights are soon forgotten."""
    return min(limit, (1 + step) / (10 + step))


@torch.no_grad()
def update(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move ``average`` towards ``model`` by 1 - ``decay``."""
    for mean, parameter in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(parameter, 1 - decay)
