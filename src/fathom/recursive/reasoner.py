"""A recursive model as a reasoner: a checkpoint, the puzzles that it was trained on, and how fast it runs here."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from fathom.budget import Meter
from fathom.errors import LimitError
from fathom.reasoner import Capability
from fathom.records import Message, Problem
from fathom.recursive.checkpoint import Checkpoint
from fathom.recursive.explorer import Explorer
from fathom.recursive.flops import step_flops
from fathom.recursive.library import open_checkpoint
from fathom.recursive.pace import Pace
from fathom.recursive.session import RecursiveSession
from fathom.recursive.stepping import HAND_OVER, WAVE, Habits
from fathom.recursive.tasks import Task
from fathom.specs import Spec

__all__ = ["RecursiveReasoner", "open_recursive"]

SLOTS = 1024
BEYOND_TRAINING = 8
"""How many times as deep as in training a trajectory may get that does not come to its own end."""
MEASURED = 16
"""Trajectories in the steps that are timed."""


class RecursiveReasoner:
    """A checkpoint seen as a reasoner: depth is supervision steps, width is latent trajectories.

    Its answers are judged by the constraints of its task, which also end a trajectory as soon as its answer is right;
    without ``constraints``, or where the task cannot know what is right, its heads alone decide. Without ``halting`` a
    trajectory goes as deep as it is told to. Torch runs in one worker thread, with ``threads`` threads of its own; more
    than one rarely pays for models of this size, and threads that torch is first used in later start with as many.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        task: Task,
        *,
        name: str | None = None,
        constraints: bool = True,
        halting: bool = True,
        threads: int = 1,
    ) -> None:
        if threads < 1:
            raise LimitError("threads", f"threads must be at least 1, not {threads!r}")
        self.checkpoint = checkpoint
        self.task = task
        self.name = name or f"recursive:{task.name}"
        self.constraints = constraints and task.verifies
        self.halting = halting
        self._worker = ThreadPoolExecutor(1, "fathom-recursive", torch.set_num_threads, (threads,))
        self._habits: Habits | None = None

    def __repr__(self) -> str:
        return f"RecursiveReasoner({self.name!r})"

    @property
    def capabilities(self) -> frozenset[Capability]:
        can = {Capability.VALUE, Capability.STEPS, Capability.EXTEND, Capability.CONTINUE, Capability.FORK}
        return frozenset(can | {Capability.VALID} if self.constraints else can)

    @property
    def max_width(self) -> int | None:
        return None

    @property
    def parameters(self) -> int:
        """Its weights, counted."""
        return sum(weight.numel() for weight in self.checkpoint.model.parameters())

    @property
    def unit_flops(self) -> float:
        """The arithmetic of a supervision step of one trajectory."""
        return step_flops(self.checkpoint.model)

    @property
    def usual(self) -> Problem:
        """A puzzle that stands for any, as far as a plan goes: the one that gives nothing."""
        return Problem((Message("user", self.task.render(self._blank)),))

    @property
    def _blank(self) -> Tensor:
        length, fields = self.task.shape.length, self.task.shape.fields
        return torch.zeros((length, fields) if fields > 1 else (length,), dtype=torch.long)

    async def prepare(self) -> Habits:
        """Warm up and measure how long a step takes here, once."""
        if self._habits is None:
            self._habits = await asyncio.get_running_loop().run_in_executor(self._worker, self._measured)
        return self._habits

    def _measured(self) -> Habits:
        model, metrics = self.checkpoint.model, self.checkpoint.metrics
        explorer = Explorer(model, slots=MEASURED)
        problem = explorer.pose(self._blank)
        all_of_them = [explorer.start(problem) for _ in range(MEASURED)]
        times = {}
        for rows in (MEASURED, 1):
            seconds = []
            for _ in range(4):  # the first ones pay for what torch sets up
                began = time.monotonic()
                explorer.advance(all_of_them[:rows])
                explorer.conclude(all_of_them[:rows])
                seconds.append(time.monotonic() - began)
            times[rows] = sorted(seconds)[1]
        supervision = model.config.supervision
        return Habits(
            pace=Pace(times[1], times[MEASURED], MEASURED),
            step_flops=step_flops(model),
            halt_threshold=self.checkpoint.halt_threshold if self.halting else 1.0,
            settles=self.halting,
            usual_depth=float(metrics.get("halt_depth", supervision)),
            greatest_depth=BEYOND_TRAINING * supervision if self.halting else supervision,
        )

    async def open(
        self, problem: Problem, meter: Meter, *, seed: int = 0, wants: frozenset[Capability] = frozenset()
    ) -> RecursiveSession:
        """Read the puzzle. Raises InputError for one that is none, or contradicts itself."""
        puzzle = problem.text
        x = self.task.parse(puzzle)
        habits = await self.prepare()
        needed = HAND_OVER + habits.pace.quiet(1)
        if needed >= meter.seconds_left:
            raise LimitError(
                "seconds",
                f"the deadline is too short: a step of {self.name} takes {habits.pace.quiet(1):.2g} s on this machine, "
                f"and {meter.seconds_left:.2g} s are left; allow at least {2 * needed:.2g} s",
            )
        explorer = Explorer(self.checkpoint.model, seed=seed, slots=SLOTS, wave=WAVE)
        if not meter.fits(explorer.trajectory_bytes):
            raise LimitError(
                "memory_bytes",
                f"the memory limit is too small: a trajectory of {self.name} takes {explorer.trajectory_bytes} bytes",
            )
        return RecursiveSession(
            self.name, self.task, puzzle, x, explorer, habits, self._worker, constraints=self.constraints
        )

    async def aclose(self) -> None:
        self._worker.shutdown(wait=False)


async def open_recursive(
    name_or_path: str,
    *,
    constraints: bool = True,
    halting: bool = True,
    noise: float | None = None,
    threads: int = 1,
    device: str = "cpu",
) -> RecursiveReasoner:
    """Open a shipped checkpoint by its name, or one by its file, ready to answer. See ``RecursiveReasoner``.

    ``noise`` is the σ that makes a deterministic model sample (PTRM). What changes the answers is part of the model's
    name, so that trajectories drawn in different ways are never taken for one another's. Raises as
    :func:`~fathom.recursive.library.open_checkpoint`.
    """
    checkpoint, task = await asyncio.to_thread(open_checkpoint, name_or_path, noise=noise, device=device)
    told: dict[str, object] = {} if noise is None else {"noise": checkpoint.model.config.noise}
    told |= {name: False for name, on in (("constraints", constraints), ("halting", halting)) if not on}
    reasoner = RecursiveReasoner(
        checkpoint,
        task,
        name=str(Spec(f"recursive:{name_or_path}", told)),
        constraints=constraints,
        halting=halting,
        threads=threads,
    )
    await reasoner.prepare()
    return reasoner
