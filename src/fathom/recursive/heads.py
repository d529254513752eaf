"""Fitting the halt and value heads to a finished model's own roll-outs, and calibrating the threshold at which it may
halt.

Both heads read prior roll-outs, which is what they will judge. The halt head learns whether the answer decoded now is
right, the value head (GRAM's latent process reward model) whether the trajectory's last answer will be, wherever it
ends. A threshold of 0.5 halts too early by far, so each checkpoint gets its own, from the validation split.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fathom.recursive.checkpoint import optimizer_state, restore_optimizer
from fathom.recursive.config import TrainConfig
from fathom.recursive.losses import halt_loss, value_loss
from fathom.recursive.model import RecursiveModel
from fathom.recursive.rollout import roll_out, trajectories
from fathom.recursive.tasks.base import Task

__all__ = ["HeadFitting", "calibrate", "fit_heads"]

UPDATES_PER_ROLL_OUT = 12
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.993, 0.996, 0.998, 0.999)
TOLERATED_LOSS = 0.005


class HeadFitting:
    """Fitting ``model.heads`` to prior roll-outs, twice as deep as the model was trained, for ``config.head_steps``
    updates.

    ``advance`` makes one roll-out and the updates on it; between two of them, ``state_dict`` and the model are all that
    the next one depends on.
    """

    def __init__(self, model: RecursiveModel, task: Task, config: TrainConfig, device: str) -> None:
        self.model, self.task, self.config, self.device = model, task, config, device
        self.data = torch.Generator().manual_seed(config.seed + 10_000)
        self.noise = torch.Generator(device).manual_seed(config.seed + 10_000)
        self.optimizer = torch.optim.AdamW(model.heads.parameters(), lr=config.head_rate, weight_decay=0.0)
        self.updates = 0

    @property
    def done(self) -> bool:
        return self.updates >= self.config.head_steps

    def advance(self) -> None:
        """One roll-out, and the updates on its states."""
        depth = 2 * self.model.config.supervision
        x = self.task.batch(self.config.batch, self.data)[0].to(self.device)
        states = [state.h for state in roll_out(self.model, x, depth, self.noise)]
        answers = [self.model.decode(h).argmax(-1) for h in states]
        right = torch.stack([self.task.valid(x, answer) for answer in answers])
        self.model.heads.requires_grad_(True)
        for _ in range(min(UPDATES_PER_ROLL_OUT, self.config.head_steps - self.updates)):
            # One state of an early depth, where right and wrong answers are both common, and one of any.
            early, later = (
                int(torch.randint(limit, (1,), generator=self.data)) for limit in (max(2, depth // 4), depth)
            )
            asked = [self._asked(x, answers, right, at) for at in (early, later)]
            self._update(
                torch.cat([states[early], states[later]]), *(torch.cat(part) for part in zip(*asked, strict=True))
            )
            self.updates += 1
        self.model.heads.requires_grad_(False)

    def _asked(self, x: Tensor, answers: list[Tensor], right: Tensor, at: int) -> tuple[Tensor, Tensor, Tensor]:
        """The inputs that the states at depth ``at`` are judged for, whether their answers are right, and whether they
        will be where the roll-out ends: at any depth from here, for any may be the last.

        A share of the states is judged for another's input. Their boards are often flawless and do not answer it, which
        is how the wrong answers of a trained model look too, and those are rare.
        """
        end = at + int(torch.randint(len(answers) - at, (1,), generator=self.data))
        strangers = int(self.config.strangers * len(x))
        shift = 1 + int(torch.randint(max(1, len(x) - 1), (1,), generator=self.data))
        asked = torch.cat((x.roll(shift, 0)[:strangers], x[strangers:]))
        now = self.task.valid(asked, answers[at])
        return asked, now, torch.cat((now[:strangers], right[end, strangers:]))

    def _update(self, h: Tensor, x: Tensor, now: Tensor, finally_: Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.head_rate * (1 - self.updates / self.config.head_steps)
        halt, value = self.model.judge(h, self.model.encode(x))
        loss = (halt_loss(halt, now) + value_loss(value, finally_)).mean()
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        return {
            "updates": self.updates,
            "optimizer": optimizer_state(self.optimizer),
            "data": self.data.get_state(),
            "noise": self.noise.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.updates = state["updates"]
        restore_optimizer(self.optimizer, state["optimizer"])
        self.data.set_state(state["data"].cpu())
        self.noise.set_state(state["noise"].cpu())


def fit_heads(model: RecursiveModel, task: Task, config: TrainConfig, device: str) -> None:
    """Fit ``model.heads`` from start to end."""
    fitting = HeadFitting(model, task, config, device)
    while not fitting.done:
        fitting.advance()


def calibrate(model: RecursiveModel, task: Task, config: TrainConfig, device: str) -> dict[str, float]:
    """The lowest halt threshold that costs at most half a percent of accuracy on the validation split, and the depth it
    leads to.

    Where none does, the threshold is 1: such a model never halts.
    """
    x = task.inputs("validation")
    x = x[:: max(1, len(x) // config.validation_inputs)][: config.validation_inputs].to(device)
    depth = 2 * model.config.supervision
    width = config.validation_samples if model.draws else 1
    rolled = trajectories(model, x, depths=tuple(range(1, depth + 1)), width=width, seed=config.seed + 1)
    repeated = x.repeat_interleave(width, 0)
    right = torch.stack([task.valid(repeated, answers.flatten(0, 1)) for answers, _, _ in rolled.values()])
    halt = torch.stack([halts.flatten() for _, halts, _ in rolled.values()])
    full = float(right[-1].float().mean())
    for threshold in THRESHOLDS:
        halted = halt > threshold
        halted[-1] = True
        stop = halted.float().argmax(0)
        accuracy = float(right.gather(0, stop[None]).float().mean())
        if accuracy >= full - TOLERATED_LOSS:
            return {
                "halt_threshold": threshold,
                "halt_depth": float((stop + 1).float().mean()),
                "halt_accuracy": accuracy,
            }
    return {"halt_threshold": 1.0, "halt_depth": float(depth), "halt_accuracy": full}
