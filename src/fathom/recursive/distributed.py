"""Data-parallel training under ``torchrun``: every process draws the whole batch, works on its rows, and averages
gradients.

Drawing everything everywhere costs little beside the model, and makes n processes take the step that one would. What is
saved is the whole batch too, so that any number of processes that divides it can go on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from fathom.errors import LimitError, UsageError

__all__ = ["World", "cuda_device"]


@dataclass(frozen=True)
class World:
    """This process's place among those that train together, and the device that it trains on."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @classmethod
    def from_environment(cls, device: str = "cpu") -> World:
        """As ``torchrun`` says, joining its process group; alone where it does not."""
        if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
            return cls(device=device)
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        return cls(distributed.get_rank(), distributed.get_world_size(), device)

    def share(self, batch: Tensor) -> Tensor:
        """This process's rows of a batch. Raises ``LimitError`` where they do not divide evenly."""
        if len(batch) % self.size:
            raise LimitError("batch", f"a batch of {len(batch)} does not divide among {self.size} processes")
        return batch.chunk(self.size)[self.rank]

    def gather(self, rows: Tensor) -> Tensor:
        """The batch that every process holds its :meth:`share` of. All of them have to ask."""
        if self.size == 1:
            return rows
        sent = rows.contiguous().view(torch.uint8)  # not every backend sends every type
        parts = [torch.empty_like(sent) for _ in range(self.size)]
        distributed.all_gather(parts, sent)
        return torch.cat(parts).view(rows.dtype)

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
        shared = torch.tensor(int(number), device=self.device)
        distributed.broadcast(shared, src=0)
        return int(shared)


def cuda_device(environment: Mapping[str, str], devices: int) -> str:
    """The device of a process among ``devices`` of its machine: under ``torchrun`` each has one of its own.

    Raises ``UsageError`` where there are more processes than devices.
    """
    local = int(environment.get("LOCAL_RANK", "0"))
    if local >= devices:
        raise UsageError(
            f"process {local + 1} of this machine has no CUDA device of its own, for it has {devices}: start no more a "
            "node, or train with --device cpu"
        )
    return f"cuda:{local}"
