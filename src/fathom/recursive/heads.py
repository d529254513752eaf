"""Fitting the halt and value heads to a finished model's own roll-outs, and calibrating the threshold at which it may
halt.

Both heads read prior roll-outs, which is what they will judge. The halt head learns whether the answer decoded now is
right, the value head (GRAM's latent process reward model) whether the trajectory's last answer will be. A threshold of
0.5 halts too early by far, so each checkpoint gets its own, from the validation split.
"""

from __future__ import annotations

import torch

from fathom.recursive.config import TrainConfig
from fathom.recursive.losses import halt_loss, value_loss
from fathom.recursive.model import RecursiveModel
from fathom.recursive.rollout import roll_out, trajectories
from fathom.recursive.tasks.base import Task

__all__ = ["calibrate", "fit_heads"]

UPDATES_PER_ROLL_OUT = 12
STATES_PER_UPDATE = 4
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.993, 0.996, 0.998, 0.999)
TOLERATED_LOSS = 0.005


def fit_heads(model: RecursiveModel, task: Task, config: TrainConfig, device: str) -> None:
    """Train ``model.heads`` for ``config.head_steps`` updates on prior roll-outs, twice as deep as the model was
    trained.
    """
    data = torch.Generator().manual_seed(config.seed + 10_000)
    noise = torch.Generator(device).manual_seed(config.seed + 10_000)
    heads = model.heads.requires_grad_(True)
    optimizer = torch.optim.AdamW(heads.parameters(), lr=config.head_rate, weight_decay=0.0)
    depth = 2 * model.config.supervision
    for update in range(config.head_steps):
        if update % UPDATES_PER_ROLL_OUT == 0:
            x = task.batch(config.batch, data)[0].to(device)
            states = [state.h for state in roll_out(model, x, depth, noise)]
            right = [task.valid(x, model.decode(h).argmax(-1)) for h in states]
        for group in optimizer.param_groups:
            group["lr"] = config.head_rate * (1 - update / config.head_steps)
        # Half of the states are early ones, where right and wrong answers are both common.
        early = torch.randperm(max(2, depth // 4), generator=data)[: STATES_PER_UPDATE // 2]
        chosen = torch.cat((early, torch.randperm(depth, generator=data)[: STATES_PER_UPDATE // 2])).tolist()
        halt, value = model.judge(torch.cat([states[i] for i in chosen]))
        now, finally_ = torch.cat([right[i] for i in chosen]), right[-1].repeat(len(chosen))
        loss = (halt_loss(halt, now) + value_loss(value, finally_)).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    heads.requires_grad_(False)


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
