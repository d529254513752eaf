"""One puzzle before one recursive model: latent trajectories are its lines of thought, supervision steps their depth.

A trajectory's noise is named by the seed, its own number and those of the trajectories that it was forked from, so that
how they were batched leaves no trace. The memory budget holds the states of all that can still grow; whoever ends gives
its place to the next.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from fathom.budget import Meter
from fathom.costs import Costs
from fathom.errors import LimitError
from fathom.reasoner import Expansion, Reserve
from fathom.records import StopReason, Trajectory
from fathom.recount import Held, Recount
from fathom.recursive.explorer import Explorer
from fathom.recursive.explorer import Trajectory as Latent
from fathom.recursive.stepping import WAVE, Habits, Row, Stepper
from fathom.recursive.tasks.base import Disguised, Task, in_form_of

__all__ = ["RecursiveSession"]

CONCLUSION = 1e-4
"""Seconds to write down an answer, which was decoded already."""


class _Free:
    """What a model of one's own costs."""

    def cost(self, prompt_tokens: int, tokens: int) -> float:
        return 0.0


FREE = _Free()


class RecursiveSession:
    """See ``fathom.reasoner.Session``; the unit of depth is a supervision step.

    With ``constraints`` those of the task are consulted after every step: a right answer ends its trajectory, and a
    wrong one is known to be wrong.
    """

    def __init__(
        self,
        label: str,
        task: Task,
        puzzle: str,
        x: Tensor,
        explorer: Explorer,
        habits: Habits,
        worker: Executor,
        *,
        constraints: bool,
    ) -> None:
        self.label = label
        self.task = task
        self.puzzle = puzzle
        self.explorer = explorer
        self.habits = habits
        self._constraints = constraints
        self._shown = task.disguises(x) if isinstance(task, Disguised) else [x]
        self._inputs: dict[int, Tensor] = {}  # what each problem of the explorer shows
        self._posed: dict[int, int] = {}  # the problem of each way to show the puzzle
        self._stepper = Stepper(explorer, habits, worker, self._validity, self._abandoned)
        self._held: dict[int, tuple[Latent, Meter]] = {}  # by slot
        self._out = 0  # trajectories that have not been given back
        self._dropped: set[int] = set()  # slots to be freed when what grows in them rests

    @property
    def costs(self) -> tuple[Costs]:
        """What plans are made from (``fathom.costs.Costed``): nothing is generated, and answers need not be stated."""
        pace, habits = self.habits.pace, self.habits
        return (
            Costs(
                self.label,
                unit_seconds={width: pace.step(width) for width in (1, 4, 16, 64)},
                depth=habits.usual_depth,
                most_depth=habits.greatest_depth,
                unit_tokens=0.0,
                base_bytes=self.explorer.trajectory_bytes,
                price=FREE,
                room=WAVE,
            ),
        )

    def room(self, meter: Meter) -> int:
        """As many as step together in a tick, and could still go twice as deep as usual in the time that is left; or as
        cost hardly more than one alone.

        Once something has ended, none is started that has no prospect of getting half as far as usual.
        """
        return min(self._in_time(meter.seconds_left), max(1, self._out + self._vacant(meter)))

    def _in_time(self, left: float) -> int:
        pace, depth = self.habits.pace, self.habits.usual_depth
        if left == math.inf:
            return WAVE
        if self._stepper.ended and pace.late(1) + 0.5 * depth * pace.step(1) > left:
            return 0
        rows, cheap = self.habits.tick(), self.habits.cheap()
        while rows > cheap and pace.late(rows) + 2 * depth * pace.step(rows) > left:
            rows //= 2
        return rows

    def _vacant(self, meter: Meter) -> int:
        """How many more slots and memory have room for."""
        memory = meter.remaining.get("memory_bytes", math.inf) // self.explorer.trajectory_bytes
        return int(min(self.explorer.free, memory))

    def reserve(self, width: int) -> Reserve:
        """A step that is under way is waited for, and none is begun too late; after it, answers need only be written
        down.
        """
        return Reserve(self._stepper.remaining + CONCLUSION * width, 0)

    async def expand(self, expansion: Expansion, meter: Meter) -> AsyncGenerator[Trajectory, None]:
        if expansion.parent is None and expansion.units is not None and expansion.units < 1:
            raise LimitError("depth", "a recursive model answers after one supervision step: allow a depth of 1")
        outbox: asyncio.Queue[Row] = asyncio.Queue()
        rows = list(self._admit(expansion, meter, outbox))
        waiting = set(rows)
        self._out += len(rows)
        try:
            self._stepper.add(rows)
            while waiting:
                row = await outbox.get()
                waiting.discard(row)
                self._out -= 1
                if row.latent.depth or row.error:
                    yield self._given(row)
                else:  # cut before its first step: there is nothing to give back
                    self._free(row.latent)
        finally:
            self._out -= len(waiting)
            for row in waiting:
                self._stepper.abandon(row)

    def _admit(self, expansion: Expansion, meter: Meter, outbox: asyncio.Queue[Row]) -> Iterator[Row]:
        """A row for each trajectory of the expansion, as many as memory, slots and model calls have room for."""
        parent = expansion.parent
        for id in expansion.ids:
            if parent is not None and parent.id == id:
                latent, origin = parent.state, parent.parent
                if not self._call(meter):
                    return
            elif self._fits(meter) and self._call(meter):
                latent, origin = self._begun(id, expansion, meter), None if parent is None else parent.id
            else:
                return
            units = self.habits.greatest_depth if expansion.units is None else expansion.units
            if expansion.to_step:  # a step of its reasoning is a supervision step
                units = min(units, 1)
            yield Row(id, origin, latent, latent.depth + units, latent.depth + expansion.at_least, meter, outbox)

    def _begun(self, id: int, expansion: Expansion, meter: Meter) -> Latent:
        """A trajectory of its own, with the parent's past where there is one."""
        if expansion.parent is None:
            latent = self.explorer.start(self._problem(id), id, greedy=expansion.greedy)
            meter.observe(width=1)  # a continuation is no new line of thought: others are dropped for it
        else:
            latent = self.explorer.fork(expansion.parent.state, id, greedy=expansion.greedy)
        meter.hold(self.explorer.trajectory_bytes)
        assert latent.slot is not None
        self._held[latent.slot] = latent, meter
        return latent

    def _problem(self, id: int) -> int:
        """What a trajectory starts from: the ways to show the puzzle take turns."""
        at = id % len(self._shown)
        if at not in self._posed:
            self._posed[at] = self.explorer.pose(self._shown[at])
            self._inputs[self._posed[at]] = self._shown[at]
        return self._posed[at]

    def _fits(self, meter: Meter) -> bool:
        """Whether there is room for one more."""
        if self._vacant(meter):
            return True
        meter.refused = StopReason.MEMORY
        return False

    def _call(self, meter: Meter) -> bool:
        """Count a model call, if the limit on them allows it. No tokens are generated."""
        with meter.lease(1, price=FREE) as lease:
            if lease.tokens:
                lease.charge("sample", calls=1)
            return lease.tokens > 0

    def _given(self, row: Row) -> Trajectory:
        latent = row.latent
        told = Trajectory(
            row.id,
            parent=row.parent,
            depth=latent.depth,
            finished=row.finished,
            reason=row.reason,
            value=latent.value,
            error=row.error,
            state=latent,
        )
        if row.finished or row.error or latent.slot in self._dropped:
            self._free(latent)
        if row.error:
            return told
        if row.finished:
            return self._answered(told, row.valid)
        return replace(told, text=self._board(latent, latent.answer))

    def _answered(self, trajectory: Trajectory, valid: bool | None) -> Trajectory:
        """With its answer: the board as people write it. One that breaks a constraint, or that is none, has no standing
        in a vote.
        """
        board = self._board(trajectory.state, trajectory.state.answer)
        valid = valid if board else False
        return replace(trajectory, text=board, answer=board, key=board, parsed=valid is not False, valid=valid)

    def _board(self, latent: Latent, answer: Tensor | None) -> str:
        assert answer is not None, "every step is concluded"
        return in_form_of(self.puzzle, self.task.render(self._inputs[latent.problem], answer))

    def recount(self, trajectory: Trajectory) -> Recount:
        """What it would have answered after each of its steps (``fathom.recount.Recounting``)."""
        latent: Latent = trajectory.state
        right = self._right([(latent, answer) for _, answer in latent.answers])
        held = [
            Held(depth, self._board(latent, answer), valid)
            for (depth, answer), valid in zip(latent.answers, right, strict=True)
        ]
        return Recount(tuple(latent.values), tuple(held))

    def unfolding(self, given: Iterable[Trajectory], told: Mapping[int, int]) -> Iterator[tuple[int, Sequence[Held]]]:
        """See ``fathom.recount.Unfolding``."""
        known = ((t.id, t.state) for t in given if t.state is not None)
        for id, latent in chain(((row.id, row.latent) for row in self._stepper.rows), known):
            if new := latent.answers[told.get(id, 0) :]:
                yield id, self.recount(Trajectory(id, state=replace(latent, values=[], answers=new))).held

    def _validity(self, latents: Sequence[Latent]) -> list[bool | None]:
        """Whether the answers that these hold are right, None where the constraints are not consulted."""
        return self._right([(latent, latent.answer) for latent in latents if latent.answer is not None])

    def _right(self, held: list[tuple[Latent, Tensor]]) -> list[bool | None]:
        """Whether the answers that latents hold, or held, are right."""
        if not self._constraints or not held:
            return [None] * len(held)
        x = torch.stack([self._inputs[latent.problem] for latent, _ in held])
        right: list[bool | None] = self.task.valid(x, torch.stack([answer for _, answer in held])).tolist()
        return right

    async def conclude(self, trajectories: Sequence[Trajectory], meter: Meter) -> AsyncGenerator[Trajectory, None]:
        right = self._validity([trajectory.state for trajectory in trajectories])
        for trajectory, valid in zip(trajectories, right, strict=True):
            self._free(trajectory.state)
            yield self._answered(trajectory, valid)

    def drop(self, trajectories: Sequence[Trajectory]) -> None:
        for trajectory in trajectories:
            latent: Latent = trajectory.state
            if latent.slot is not None and self._stepper.growing(latent) is not None:
                self._dropped.add(latent.slot)
            else:
                self._free(latent)

    def _abandoned(self, row: Row) -> None:
        self._free(row.latent)

    def _free(self, latent: Latent) -> None:
        """Give up what is held for a trajectory, once."""
        if latent.slot is None:
            return
        _, meter = self._held.pop(latent.slot)
        meter.hold(-self.explorer.trajectory_bytes)
        self._dropped.discard(latent.slot)
        self.explorer.drop(latent)

    def stop(self, ids: Collection[int] | None = None) -> None:
        self._stepper.cut(ids)

    async def aclose(self) -> None:
        await self._stepper.aclose()
        for latent, _ in list(self._held.values()):
            self._free(latent)
