"""Training slots: each holds a problem, its target and a latent state, and is given a new problem when its episode
ends.

Deep supervision (HRM, arXiv 2506.21734) trains on every supervision step of an episode, the state carried over
detached. Slots start at random ages, so that each batch holds all depths. All draws are made for the whole batch
whatever slots end, which makes them the same for any number of processes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fathom.recursive.config import TrainConfig
from fathom.recursive.distributed import World
from fathom.recursive.model import Latent, RecursiveModel
from fathom.recursive.tasks.base import Task

__all__ = ["Slots"]


class Slots:
    """``config.batch`` training episodes side by side, of which this process holds its share of the ``world``'s."""

    def __init__(
        self,
        task: Task,
        model: RecursiveModel,
        config: TrainConfig,
        generator: torch.Generator,
        world: World,
    ) -> None:
        self.task, self.config, self.generator, self.world = task, config, generator, world
        self.episode = model.config.supervision
        self.device = model.h0.device
        self.x, self.y, self.on_policy, self.explores_until = self._draw()
        self.age = self._rows(torch.randint(self.episode, (config.batch,), generator=generator))
        start = model.start(len(self.x))
        self.h, self.l = start.h.clone(), start.l.clone()

    def _rows(self, drawn: Tensor) -> Tensor:
        return self.world.share(drawn).to(self.device)

    def _draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A fresh problem for every slot, whether it runs on policy, and until which age it ignores the halt head."""
        config, generator = self.config, self.generator
        x, y = self.task.batch(config.batch, generator)
        chance = torch.rand(2, config.batch, generator=generator)
        share = config.on_policy_share if config.mode == "on-policy" else 0.0
        exploring = torch.randint(2, max(3, self.episode + 1), (config.batch,), generator=generator)
        until = torch.where(chance[1] < config.exploration, exploring, 0)
        return self._rows(x), self._rows(y), self._rows(chance[0] < share), self._rows(until)

    @property
    def state(self) -> Latent:
        return Latent(self.h, self.l)

    def advance(self, model: RecursiveModel, state: Latent, y: Tensor, halted: Tensor | None) -> None:
        """Carry ``state`` and the targets ``y`` over, and refill the slots whose episode is over or has halted."""
        self.age += 1
        done = self.age >= self.episode
        if halted is not None:
            done |= halted & (self.age >= self.explores_until)
        x, fresh_y, on_policy, until = self._draw()
        row = done.view(-1, *[1] * (x.dim() - 1))
        self.x, self.y = torch.where(row, x, self.x), torch.where(done[:, None], fresh_y, y)
        self.on_policy = torch.where(done, on_policy, self.on_policy)
        self.explores_until = torch.where(done, until, self.explores_until)
        self.h = torch.where(done[:, None, None], model.h0, state.h)
        self.l = torch.where(done[:, None, None], model.l0, state.l)
        self.age = torch.where(done, 0, self.age)

    _CARRIED = ("x", "y", "on_policy", "explores_until", "age", "h", "l")

    def state_dict(self) -> dict[str, Any]:
        """All episodes, of every process; all of them have to ask."""
        return {name: self.world.gather(getattr(self, name)) for name in self._CARRIED}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with this process's rows of ``state``, which may be that of another number of processes."""
        for name in self._CARRIED:
            if len(state[name]) != self.config.batch:
                raise ValueError(f"it holds {len(state[name])} of {self.config.batch} slots")
            setattr(self, name, self._rows(state[name]))
