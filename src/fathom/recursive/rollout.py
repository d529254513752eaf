"""Rolling trajectories out from the prior, in one batch: what training validates on and evaluation measures.

The explorer (:mod:`fathom.recursive.explorer`) does the same for serving, where trajectories come and go.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fathom.recursive.model import Latent, RecursiveModel

__all__ = ["roll_out", "trajectories"]


@torch.no_grad()
def roll_out(model: RecursiveModel, x: Tensor, depth: int, generator: torch.Generator) -> Iterator[Latent]:
    """The states after each of ``depth`` supervision steps of one trajectory an input, guided by the prior alone."""
    e = model.encode(x)
    state = model.start(len(x))
    for taken in range(depth):
        noise = model.noise(len(x), generator)
        state = model.supervision_step(state, e, None if noise is None else noise * model.temperature(taken)).state
        yield state


@torch.no_grad()
def trajectories(
    model: RecursiveModel, x: Tensor, *, depths: tuple[int, ...], width: int, seed: int, rows: int = 64
) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
    """Answers (N, width, L), halt and value probabilities (N, width) each, of ``width`` trajectories an input at every
    depth asked for.

    At most ``rows`` trajectories run at once. One seed, one result, whatever ``depths`` are asked for.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    kept: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {depth: [] for depth in depths}
    for part in torch.split(x.repeat_interleave(width, 0), rows):
        for depth, state in enumerate(roll_out(model, part, max(depths), generator), 1):
            if depth in kept:
                halt, value = model.judge(state.h, model.encode(part))
                kept[depth].append((model.decode(state.h).argmax(-1), halt.sigmoid(), value.sigmoid()))
    return {depth: _gather(parts, len(x), width) for depth, parts in kept.items()}


def _gather(parts: list[tuple[Tensor, Tensor, Tensor]], inputs: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    answers, halts, values = (torch.cat(column) for column in zip(*parts, strict=True))
    return answers.view(inputs, width, -1), halts.view(inputs, width), values.view(inputs, width)
