"""Handwritten digits without a condition: the model paints, from a blank input, a picture like those it has seen.

The 8 × 8 digits that ship with scikit-learn, binarised at half intensity. There are no constraints to break, so a
picture counts as valid where some real digit, of any split, differs from it in at most ``TOLERANCE`` of its 64 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fathom.errors import MissingDependency
from fathom.recursive.config import Shape
from fathom.recursive.tasks.base import SplitName, read_board, show_board
from fathom.recursive.tasks.enumerated import EnumeratedTask

__all__ = ["Digits"]

TOLERANCE = 5
INPUTS = 64


class Digits(EnumeratedTask):
    """Binary 8 × 8 pictures; the input is always blank. Splits are of pictures: ``answers`` holds those trained on."""

    def __init__(self) -> None:
        self.name = "digits"
        self.shape = Shape(length=64, symbols_in=1, symbols_out=2)
        self.defaults: Mapping[str, Any] = {"beta": 0.1, "on_policy_share": 0.5}
        pictures = _pictures()
        self.held_out, self.answers = pictures[: len(pictures) // 5], pictures[len(pictures) // 5 :]

    def allowed(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), len(self.answers), dtype=torch.bool, device=x.device)

    def _splits(self) -> dict[SplitName, Tensor]:
        blank = torch.zeros(INPUTS, self.shape.length, dtype=torch.long)
        return {"train": blank[:1], "validation": blank, "test": blank}

    def valid(self, x: Tensor, answer: Tensor) -> Tensor:
        real = torch.cat((self.answers, self.held_out)).to(answer.device)
        return torch.cdist(answer.float(), real.float(), p=1).amin(-1) <= TOLERANCE

    def parse(self, text: str) -> Tensor:
        return read_board(text, 8, {".": 0}, "a blank picture")

    def render(self, x: Tensor, answer: Tensor | None = None) -> str:
        return show_board(x if answer is None else answer, 8, ".#")


def _pictures() -> Tensor:
    """All distinct pictures, (N, 64), in a fixed random order."""
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingDependency("scikit-learn", "recursive", "the task 'digits'") from error
    pictures: Tensor = torch.unique(torch.tensor(load_digits().data >= 8).long(), dim=0)
    return pictures[torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0))]
