"""Data-parallel training under ``torchrun``: every process draws the whole batch, works on its rows, and averages
gradients.

Drawing everything everywhere costs little beside the model, and makes n processes take the step that one would.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from fathom.errors import LimitError

__all__ = ["World"]


@dataclass(frozen=True)
class World:
    """This process's place among those that train together."""

    rank: int = 0
    size: int = 1

    @classmethod
    def from_environment(cls) -> World:
        """As ``torchrun`` says, joining its process group; alone where it does not."""
        if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
            return cls()
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return cls(distributed.get_rank(), distributed.get_world_size())

    def share(self, batch: Tensor) -> Tensor:
        """This process's rows of a batch. Raises ``LimitError`` where they do not divide evenly."""
        if len(batch) % self.size:
            raise LimitError("batch", f"a batch of {len(batch)} does not divide among {self.size} processes")
        return batch.chunk(self.size)[self.rank]

    def average_gradients(self, model: nn.Module) -> None:
        """Replace each gradient by its mean over the processes."""
        if self.size == 1:
            return
        for parameter in model.parameters():
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad)
                parameter.grad /= self.size

    def first_says(self, number: int) -> int:
        """The number that the first process holds, for all of them."""
        if self.size == 1:
            return number
        shared = torch.tensor(number, device="cuda" if distributed.get_backend() == "nccl" else "cpu")
        distributed.broadcast(shared, src=0)
        return int(shared)

    def any_says(self, yes: bool) -> bool:
        """Whether any process says yes."""
        if self.size == 1:
            return yes
        shared = torch.tensor(int(yes), device="cuda" if distributed.get_backend() == "nccl" else "cpu")
        distributed.all_reduce(shared)
        return bool(shared)
