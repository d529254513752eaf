"""Tasks whose answers can all be written down: 92 boards of 8 queens, 1,094 colourings of 8 vertices.

With every answer in a table, a batch of problems is solved exactly by one matrix product: counting, sampling and
finding the nearest right answer are questions to the same (problems × answers) matrix of what is allowed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fathom.recursive.config import Shape
from fathom.recursive.tasks.base import SplitName

__all__ = ["EnumeratedTask"]


class EnumeratedTask(ABC):
    """A task over a table ``answers`` (A, L) of all candidate answers. Subclasses say which an input allows."""

    name: str
    shape: Shape
    defaults: Mapping[str, Any]
    paper: Mapping[str, Any]
    verifies = True
    answers: Tensor
    emphasis: float = 0.0
    """A training input is drawn in proportion to its number of answers to this power: 1 draws (input, answer) pairs
    evenly.
    """

    @abstractmethod
    def allowed(self, x: Tensor) -> Tensor:
        """Which answers are right for which inputs: (B, A) bool."""

    @abstractmethod
    def _splits(self) -> dict[SplitName, Tensor]:
        """The inputs of all three splits."""

    @cached_property
    def splits(self) -> dict[SplitName, Tensor]:
        return self._splits()

    def inputs(self, split: SplitName) -> Tensor:
        return self.splits[split]

    @cached_property
    def _weights(self) -> Tensor:
        return self.count(self.splits["train"]).double() ** self.emphasis

    def batch(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = self.splits["train"][torch.multinomial(self._weights, count, replacement=True, generator=generator)]
        return x, self.answers[torch.multinomial(self.allowed(x).float(), 1, generator=generator)[:, 0]]

    def count(self, x: Tensor) -> Tensor:
        return torch.cat([self.allowed(part).sum(-1) for part in torch.split(x, 4096)])

    def nearest(self, x: Tensor, answer: Tensor, y: Tensor) -> Tensor:
        """Exact. Of equally near answers, the one nearer to the present target ``y``."""
        agreement = self._agreement(answer) + self._agreement(y) / (2 * self.shape.length)
        return self.answers.to(x.device)[agreement.masked_fill(~self.allowed(x), -1).argmax(-1)]

    def _agreement(self, answer: Tensor) -> Tensor:
        """In how many positions each answer of the table equals ``answer``: (B, A)."""
        symbols = self.shape.symbols_out
        table = F.one_hot(self.answers.to(answer.device), symbols).flatten(1).float()
        return F.one_hot(answer, symbols).flatten(1).float() @ table.T
