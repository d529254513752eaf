"""Training recursive models: deep supervision on slots, a KL-balanced evidence bound, checkpoints chosen by prior
roll-outs.

Two modes. ``paper`` carries posterior samples forward (GRAM, arXiv 2605.19376). ``on-policy`` carries *prior* samples
forward in a share of the slots and relabels their target with the valid answer nearest to what they decode, so that the
model is trained on the states it meets at inference. Cross-entropy and posterior accuracy say nothing about inference;
the log therefore has the KL of the first step and the accuracy of prior roll-outs.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fathom.recursive import ema
from fathom.recursive.checkpoint import optimizer_state, restore_optimizer
from fathom.recursive.config import ModelConfig, TrainConfig
from fathom.recursive.distributed import World
from fathom.recursive.episodes import Slots
from fathom.recursive.losses import balanced_kl, halt_loss, reconstruction_loss
from fathom.recursive.model import Latent, RecursiveModel
from fathom.recursive.rollout import trajectories
from fathom.recursive.tasks.base import Task

__all__ = ["Trainer", "learning_rate", "validate"]


class _Outcome(NamedTuple):
    """What a forward pass of all slots gives; losses and divergences are one a slot."""

    loss: Tensor
    reconstruction: Tensor
    divergence: Tensor
    halt: Tensor
    trained: Latent
    """The state that the loss was taken of: after a posterior sample, where there is one."""
    rolled_out: Latent
    """The state that inference would have reached: after a prior sample."""


class Trainer:
    """A training run at a step: ``advance`` makes one, ``state_dict`` is all that the next one depends on. Of several
    processes, all have to make the same calls.
    """

    def __init__(
        self,
        task: Task,
        model_config: ModelConfig,
        config: TrainConfig,
        *,
        device: str = "cpu",
        compiled: bool = False,
        world: World | None = None,
    ) -> None:
        self.task, self.config, self.device, self.world = task, config, device, world or World()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.model = RecursiveModel(model_config, task.shape).to(device)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.best = copy.deepcopy(self.average)
        self.best_score = -1.0
        self.optimizer = _optimizer(self.model, config)
        self.data = torch.Generator().manual_seed(2 * config.seed + 1)
        self.noise = torch.Generator(device).manual_seed(2 * config.seed + 2)
        self.slots = Slots(task, self.model, config, self.data, self.world)
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.averages: dict[str, float] = {}
        """Moving averages of what each step logs, over some fifty of them."""
        self._forward = torch.compile(self._losses, dynamic=False) if compiled else self._losses

    def _losses(self, h: Tensor, low: Tensor, x: Tensor, y: Tensor, noise: Tensor | None) -> _Outcome:
        model, config = self.model, self.config
        e = model.encode(x)
        answer = model.encode_answer(y) if model.config.stochastic else None
        step = model.supervision_step(Latent(h, low), e, noise, answer)
        reconstruction = reconstruction_loss(model.decode(step.state.h), y, config.reconstruction)
        loss, divergence, rolled_out = reconstruction, torch.zeros_like(reconstruction), step.state
        if step.prior is not None and step.posterior is not None:
            divergence = balanced_kl(step.posterior, step.prior, config.balance)
            loss = loss + config.beta * divergence
            rolled_out = Latent(step.proposal + step.prior.sample(None if noise is None else noise[-1]), step.state.l)
        halt = torch.zeros_like(reconstruction)
        if config.halt_weight:
            halt = model.judge(step.state.h, e)[0]
            valid = self.task.valid(x, model.decode(step.state.h).argmax(-1)).detach()
            loss = loss + config.halt_weight * halt_loss(halt, valid)
        return _Outcome(loss.mean(), reconstruction, divergence, halt, step.state.detach(), rolled_out.detach())

    def advance(self) -> None:
        """One step of every slot and of the optimiser."""
        slots, config = self.slots, self.config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step) * group["scale"]
        noise = self._noise()
        outcome = self._forward(slots.h, slots.l, slots.x, slots.y, noise)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(outcome.loss)
        self.world.average_gradients(self.model)
        nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.grad is not None], config.clip)
        self.optimizer.step()
        self.step += 1
        ema.update(self.average, self.model, ema.decay_at(self.step, config.ema))
        with torch.no_grad():
            self._carry(outcome)

    def _noise(self) -> Tensor | None:
        if not self.model.config.stochastic:
            return None
        drawn = self.model.noise(self.config.batch, self.noise)
        return None if drawn is None else torch.stack([self.world.share(draw) for draw in drawn])

    def _carry(self, outcome: _Outcome) -> None:
        """Log the step, choose each slot's next state and target, and refill."""
        slots, first = self.slots, self.slots.age == 0
        y = slots.y
        self._record("reconstruction", outcome.reconstruction)
        self._record("kl_first_step", outcome.divergence[first])
        state = outcome.trained
        if bool(slots.on_policy.any()):
            rolled = outcome.rolled_out
            chosen = slots.on_policy[:, None, None]
            state = Latent(torch.where(chosen, rolled.h, state.h), torch.where(chosen, rolled.l, state.l))
            at = slots.on_policy
            answer = self.model.decode(rolled.h[at]).argmax(-1)
            y = y.clone()
            y[at] = self.task.nearest(slots.x[at], answer, y[at])
            self._record("prior_accuracy_in_training", self.task.valid(slots.x[at], answer).float())
        halted = outcome.halt > 0 if self.config.refill_halted else None
        slots.advance(self.model, state, y, halted)

    def _record(self, name: str, values: Tensor) -> None:
        if len(values):
            mean = float(values.mean())
            self.averages[name] = mean + 0.98 * (self.averages.get(name, mean) - mean)

    def validate(self) -> dict[str, float]:
        """Prior roll-outs of the averaged weights on the validation split; the best weights so far are kept."""
        entry = {
            "step": float(self.step),
            **self.averages,
            **validate(self.average, self.task, self.config, self.device),
        }
        self.history.append(entry)
        if entry["score"] > self.best_score:
            self.best_score = entry["score"]
            self.best.load_state_dict(self.average.state_dict())
        return entry

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best.state_dict(),
            "best_score": self.best_score,
            "optimizer": optimizer_state(self.optimizer),
            "slots": self.slots.state_dict(),
            "data": self.data.get_state(),
            "noise": self.noise.get_state(),
            "history": json.dumps(self.history),
            "averages": json.dumps(self.averages),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``, that of a trainer with the same settings."""
        self.step, self.best_score = state["step"], state["best_score"]
        for name in ("model", "average", "best", "slots"):
            getattr(self, name).load_state_dict(state[name])
        restore_optimizer(self.optimizer, state["optimizer"])
        self.data.set_state(state["data"].cpu())
        self.noise.set_state(state["noise"].cpu())
        self.history, self.averages = json.loads(state["history"]), json.loads(state["averages"])


def _optimizer(model: RecursiveModel, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW that decays matrices alone, and leaves the heads undecayed."""
    heads = {id(p) for p in model.heads.parameters()}
    trunk = [p for p in model.parameters() if id(p) not in heads]
    groups = [
        {"params": [p for p in trunk if p.ndim >= 2], "weight_decay": config.weight_decay, "scale": 1.0},
        {
            "params": [p for p in trunk if p.ndim < 2] + list(model.heads.parameters()),
            "weight_decay": 0.0,
            "scale": 1.0,
        },
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, config.beta2), fused=True)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, constant, then linear decay to ``floor`` of the rate."""
    progress = step / config.steps
    decay = 1.0
    if progress > config.decay_from:
        decay = max(config.floor, (1 - progress) / (1 - config.decay_from))
    return config.learning_rate * min(1.0, (step + 1) / config.warmup) * decay


def validate(model: RecursiveModel, task: Task, config: TrainConfig, device: str) -> dict[str, float]:
    """Accuracy and coverage of prior roll-outs, of one step and of the trained depth, and the score that checkpoints
    are chosen by.

    Coverage here is the share of right answers found of as many as could have been, given the samples. The score is the
    mean of both, or the accuracy where the model is deterministic.
    """
    x = task.inputs("validation")
    x = x[:: max(1, len(x) // config.validation_inputs)][: config.validation_inputs].to(device)
    depth = model.config.supervision
    width = config.validation_samples if model.draws else 1
    rolled = trajectories(model, x, depths=(1, depth), width=width, seed=config.seed)
    accuracy: dict[int, float] = {}
    for at, (answers, _, _) in rolled.items():
        valid = task.valid(x.repeat_interleave(width, 0), answers.flatten(0, 1)).view(len(x), width)
        accuracy[at] = float(valid.float().mean())
    found = [
        len({tuple(a) for a, ok in zip(row.tolist(), good.tolist(), strict=True) if ok})
        for row, good in zip(answers, valid, strict=True)
    ]
    possible = task.count(x.cpu()).clamp(1, width)
    coverage = float((torch.tensor(found) / possible).mean())
    score = (accuracy[depth] + coverage) / 2 if width > 1 else accuracy[depth]
    return {"accuracy_first_step": accuracy[1], "accuracy": accuracy[depth], "coverage": coverage, "score": score}
