"""The depth × width plane of a checkpoint: what each point of it buys, and what it costs in steps, seconds and bytes.

All points are read off one pool: every held-out puzzle has as many trajectories as the plane is wide, recorded at every
depth, so that neighbouring points differ by what they are and not by the draw. Nothing halts. Beside it go the paths of
the trajectories of one puzzle through latent space, in the plane of their two principal components.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fathom.errors import LimitError
from fathom.recursive.checkpoint import Checkpoint
from fathom.recursive.evaluate import Estimate, evaluate
from fathom.recursive.explorer import Explorer
from fathom.recursive.flops import step_flops
from fathom.recursive.model import RecursiveModel
from fathom.recursive.rollout import roll_out
from fathom.recursive.tasks import Task

__all__ = ["Cell", "LatentPaths", "Plane", "Selection", "doublings", "latent_paths", "measure_plane"]

Selection = Literal["sample", "vote", "value", "valid"]


@dataclass(frozen=True)
class Cell:
    """One point: how often the answer is right that is picked of ``width`` trajectories of ``depth`` steps.

    ``sample`` is any one of them, ``vote`` the most frequent, ``value`` the one that the value head holds most of, and
    ``valid`` one that keeps the constraints, where there is any: for tasks whose constraints are the truth, that is the
    oracle's bound. Costs are those of one puzzle; ``seconds`` as measured here.
    """

    depth: int
    width: int
    sample: Estimate
    vote: Estimate
    value: Estimate
    valid: Estimate
    steps: int
    flops: float
    seconds: float
    memory_bytes: int

    def share(self, selection: Selection) -> Estimate:
        """What that way to select achieves."""
        return {"sample": self.sample, "vote": self.vote, "value": self.value, "valid": self.valid}[selection]


@dataclass(frozen=True)
class LatentPaths:
    """Trajectories of one puzzle: ``points`` (width, depth, 2), one after every step, which ended ``right``, and the
    share of the variance that either component explains. z0, which is far from all, is left out.
    """

    points: Tensor
    right: tuple[bool, ...]
    explained: tuple[float, float]


@dataclass(frozen=True)
class Plane:
    """A measured plane, its cells depth by depth."""

    checkpoint: str
    task: str
    inputs: int
    seed: int
    step_flops: float
    trajectory_bytes: int
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    cells: tuple[Cell, ...]

    def cell(self, depth: int, width: int) -> Cell:
        """The cell there."""
        return self.cells[self.depths.index(depth) * len(self.widths) + self.widths.index(width)]


def doublings(most: int, what: str) -> tuple[int, ...]:
    """1, 2, 4 … and ``most``. Raises LimitError where that is less than 1."""
    if most < 1:
        raise LimitError(what, f"{what} must be at least 1, not {most}")
    powers = [1 << n for n in range(most.bit_length())]
    return tuple(powers if powers[-1] == most else [*powers, most])


def held_out(task: Task, inputs: int) -> Tensor:
    """So many inputs of the test split, evenly spaced: a split may have one kind of puzzle after another."""
    if inputs < 1:
        raise LimitError("inputs", f"inputs must be at least 1, not {inputs}")
    x = task.inputs("test")
    return x[torch.linspace(0, len(x) - 1, min(inputs, len(x))).long()]


def measure_plane(
    checkpoint: Checkpoint, task: Task, *, name: str, depth: int = 16, width: int = 16, inputs: int = 64, seed: int = 0
) -> Plane:
    """Measure the plane up to ``depth`` and ``width``, at their powers of two. Raises LimitError for less than 1."""
    model, depths, widths = checkpoint.model, doublings(depth, "depth"), doublings(width, "width")
    x = held_out(task, inputs).to(model.h0.device)
    uncounted = torch.ones(len(x), dtype=torch.long)  # how many answers a puzzle has is of no concern here
    points = evaluate(model, task, x, depths=depths, widths=widths, seed=seed, solutions=uncounted)
    seconds: dict[int, float] = {}
    for rows in reversed(widths):  # what takes longer than a wider step was disturbed
        seconds[rows] = min([_step_seconds(model, x[0], rows), *seconds.values()])
    flops, size = step_flops(model), Explorer(model, slots=1).trajectory_bytes
    cells = [
        Cell(
            point.depth,
            point.width,
            sample=point.accuracy,
            vote=point.vote,
            value=point.value,
            valid=point.verifier,
            steps=point.depth * point.width,
            flops=flops * point.depth * point.width,
            seconds=seconds[point.width] * point.depth,
            memory_bytes=size * point.width,
        )
        for point in points
    ]
    return Plane(name, task.name, len(x), seed, flops, size, depths, widths, tuple(cells))


def _step_seconds(model: RecursiveModel, x: Tensor, rows: int, repeats: int = 3) -> float:
    """Seconds of a step of so many trajectories together: the best of a few."""
    explorer = Explorer(model, slots=rows, wave=rows)
    problem = explorer.pose(x)
    trajectories = [explorer.start(problem) for _ in range(rows)]
    explorer.advance(trajectories)  # the first step may be cheaper than those that follow
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        explorer.advance(trajectories)
        explorer.conclude(trajectories)
        best = min(best, time.perf_counter() - began)
    return best


@torch.no_grad()
def latent_paths(model: RecursiveModel, task: Task, x: Tensor, *, width: int, depth: int, seed: int = 0) -> LatentPaths:
    """``width`` trajectories of the puzzle ``x`` through latent space, projected on two principal components."""
    boards = x.to(model.h0.device).expand(width, *x.shape)
    generator = torch.Generator(model.h0.device).manual_seed(seed)
    states = [state.h for state in roll_out(model, boards, depth, generator)]
    right = task.valid(boards, model.decode(states[-1]).argmax(-1))
    latents = torch.stack(states, 1).flatten(2).float().cpu()
    centred = (latents - latents.mean((0, 1))).flatten(0, 1)
    # Of n points in many more dimensions the components follow from the n × n products of the points.
    strength, vectors = torch.linalg.eigh(centred @ centred.T)
    strength, vectors = strength[-2:].flip(0).clamp(min=0), vectors[:, -2:].flip(1)
    vectors = vectors * torch.where(vectors.sum(0) < 0, -1.0, 1.0)  # an eigenvector's sign is anybody's
    points = (vectors * strength.sqrt()).view(width, depth, 2)
    first, second = (strength / centred.square().sum().clamp(min=1e-12)).tolist()
    return LatentPaths(points, tuple(right.tolist()), (first, second))
