"""Handwritten digits without a condition: the model paints, from a blank input, a picture like those it has seen.

The 8 × 8 digits that ship with scikit-learn, binarised at half intensity. There are no constraints to break, so a
picture counts as valid where some real digit, of any split, differs from it in at most ``TOLERANCE`` of its pixels.
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

__all__ = ["Digits", "Pictures"]

TOLERANCE = 5 / 64
INPUTS = 64


class Pictures(EnumeratedTask):
    """Binary pictures of ``side`` × ``side`` pixels; the input is always blank. Splits are of pictures: ``answers``
    holds those trained on, ``held_out`` the others, both (N, side²).
    """

    side: int
    held_out: Tensor

    def allowed(self, x: Tensor) -> Tensor:
        return torch.ones(len(x), len(self.answers), dtype=torch.bool, device=x.device)

    def _splits(self) -> dict[SplitName, Tensor]:
        blank = torch.zeros(INPUTS, self.shape.length, dtype=torch.long)
        return {"train": blank[:1], "validation": blank, "test": blank}

    def _agreement(self, answer: Tensor) -> Tensor:
        return self.shape.length - _distance(answer, self.answers.to(answer.device))

    def valid(self, x: Tensor, answer: Tensor) -> Tensor:
        known = (self.answers, self.held_out)
        nearest = [_distance(answer, pictures.to(answer.device)).amin(-1) for pictures in known]
        return torch.minimum(*nearest) <= int(TOLERANCE * self.shape.length)

    def parse(self, text: str) -> Tensor:
        return read_board(text, self.side, {".": 0}, "a blank picture")

    def render(self, x: Tensor, answer: Tensor | None = None) -> str:
        return show_board(x if answer is None else answer, self.side, ".#")


class Digits(Pictures):
    """The 8 × 8 digits of scikit-learn."""

    def __init__(self) -> None:
        self.name, self.side = "digits", 8
        self.shape = Shape(length=64, symbols_in=1, symbols_out=2)
        self.defaults: Mapping[str, Any] = {"beta": 0.1, "on_policy_share": 0.5}
        self.paper: Mapping[str, Any] = {"beta": 0.07}
        pictures = _pictures()
        self.held_out, self.answers = pictures[: len(pictures) // 5], pictures[len(pictures) // 5 :]


def _distance(answer: Tensor, pictures: Tensor) -> Tensor:
    """In how many pixels each answer (B, L) differs from each picture (N, L): (B, N), by one matrix product."""
    mine, theirs = answer.float(), pictures.float()
    return mine.sum(-1, keepdim=True) + theirs.sum(-1) - 2 * mine @ theirs.T


def _pictures() -> Tensor:
    """All distinct pictures, (N, 64), in a fixed random order."""
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingDependency("scikit-learn", "recursive", "the task 'digits'") from error
    pictures: Tensor = torch.unique(torch.tensor(load_digits().data >= 8).long(), dim=0)
    return pictures[torch.randperm(len(pictures), generator=torch.Generator().manual_seed(0))]
