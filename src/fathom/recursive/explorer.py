"""Inference as a scheduler over slots: latent trajectories enter, advance a supervision step at a time, fork, and
leave.

A problem is encoded once. A trajectory occupies one slot, whose bytes are all that it costs; whoever leaves frees the
slot for the next. Any set of trajectories may advance together, in waves of bounded size: each has noise of its own
(:mod:`fathom.recursive.noise`), so that one seed gives one result whatever the batching and the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fathom.errors import LimitError, UsageError
from fathom.recursive.model import Gaussian, Latent, RecursiveModel, Step
from fathom.recursive.noise import key_of, noise_of
from fathom.recursive.settling import End, Footprints, Settling

__all__ = ["Explorer", "Trajectory"]


@dataclass(eq=False)
class Trajectory:
    """One latent trajectory. ``slot`` is None once it has been dropped; ``answer`` is set when it is concluded."""

    problem: int
    key: int
    slot: int | None
    depth: int = 0
    halt: float = 0.0
    """Probability that the answer decoded now is right."""
    value: float = 0.0
    """Probability that the answer will be right in the end (LPRM)."""
    answer: Tensor | None = None
    end: End | None = None
    forks: int = 0
    greedy: bool = False
    """Whether it follows the mean of the prior: nothing of it is drawn."""
    values: list[float] = field(default_factory=list)
    """``value`` after each step that was noted."""
    answers: list[tuple[int, Tensor]] = field(default_factory=list)
    """The depth at which its answer became another one, and that answer."""

    def note(self) -> None:
        """Remember what it holds after a step, once it was judged and concluded."""
        assert self.answer is not None, "it was concluded"
        self.values.append(self.value)
        if not self.answers or not torch.equal(self.answers[-1][1], self.answer):
            self.answers.append((self.depth, self.answer.clone()))


@dataclass
class _Problem:
    """A posed problem: e_x, what its noise is keyed by, how many trajectories it has had, and what their first steps
    share.
    """

    encoded: Tensor
    identity: bytes
    started: int = 0
    first: Step | None = None


CACHED_ROWS = 32
"""Trajectories that a CPU core computes at a time: more of them do not fit into its cache (docs/recursive.md)."""


class Explorer:
    """Trajectories of one model. ``slots`` bounds how many exist at a time, ``wave`` how many are computed at a time.

    ``dtype`` is that of weights and states; distributions and noise are float32 throughout. ``compiled`` spends most of
    a minute once on making each step quicker, which may change last bits.
    """

    def __init__(
        self,
        model: RecursiveModel,
        *,
        seed: int = 0,
        slots: int = 1024,
        wave: int = 128,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> None:
        if slots < 1 or wave < 1:
            raise LimitError(
                "width", f"an explorer needs at least one slot and waves of at least one, not {slots} and {wave}"
            )
        self.model = (model if model.h0.dtype == dtype else model.with_settings().to(dtype)).eval()
        self.seed, self.wave = seed, wave
        self._step = torch.compile(self.model.supervision_step) if compiled else self.model.supervision_step
        device = model.h0.device
        self._rows = min(wave, CACHED_ROWS) if device.type == "cpu" else wave
        # Pages of an empty tensor are taken from the system when they are first written: unused slots cost nothing.
        self._h = torch.empty(slots, *model.h0.shape, dtype=dtype, device=device)
        self._l = torch.empty_like(self._h)
        self._free = list(range(slots - 1, -1, -1))
        self._problems: dict[int, _Problem] = {}
        self._posed = 0
        self._footprints = Footprints(slots, model.h0.numel(), device)

    @property
    def free(self) -> int:
        """Slots that are free."""
        return len(self._free)

    @property
    def trajectory_bytes(self) -> int:
        """Bytes of a trajectory's state."""
        return 2 * self._h[0].numel() * self._h.element_size()

    @torch.inference_mode()
    def pose(self, x: Tensor) -> int:
        """Encode a problem, once, and return its number. ``x`` is an input of the task, without a batch axis."""
        encoded = self.model.encode(x[None].to(self._h.device))[0]
        self._problems[self._posed] = _Problem(encoded, x.cpu().numpy().tobytes())
        self._posed += 1
        return self._posed - 1

    def retire(self, problem: int) -> None:
        """Forget a problem, whose trajectories have all been dropped."""
        del self._problems[problem]

    def path(self, trajectory: Trajectory) -> Tensor:
        """A projection of the trajectory's last 16 latents at most, (n, 16), oldest first: for drawing it."""
        return self._footprints.latents(self._slot(trajectory), trajectory.depth)

    def start(self, problem: int, number: int | None = None, *, greedy: bool = False) -> Trajectory:
        """A new trajectory of ``problem`` at depth 0; ``number`` names its noise, by default the next one.

        Raises ``LimitError`` where every slot is taken.
        """
        posed, slot = self._problems[problem], self._take()
        key = key_of(self.seed, posed.identity, posed.started if number is None else number)
        posed.started += 1
        self._h[slot], self._l[slot] = self.model.h0, self.model.l0
        return Trajectory(problem, key, slot, greedy=greedy)

    def fork(self, parent: Trajectory, number: int | None = None, *, greedy: bool = False) -> Trajectory:
        """A copy of ``parent`` that goes its own way from here: same state, other noise, named as in ``start``."""
        origin, slot = self._slot(parent), self._take()
        self._h[slot], self._l[slot] = self._h[origin], self._l[origin]
        key = key_of(parent.key, parent.depth, parent.forks if number is None else number)
        parent.forks += 1
        self._footprints.copy(origin, slot)
        copied = parent.problem, key, slot, parent.depth, parent.halt, parent.value, parent.answer
        return Trajectory(*copied, greedy=greedy, values=list(parent.values), answers=list(parent.answers))

    def drop(self, trajectory: Trajectory) -> None:
        """Give up the trajectory's state and free its slot. Its answer, where it was concluded, stays."""
        self._free.append(self._slot(trajectory))
        trajectory.slot = None

    @torch.inference_mode()
    def advance(self, trajectories: Sequence[Trajectory], *, judge: bool = True) -> None:
        """One supervision step of each, all different, in waves. ``judge`` updates ``halt`` and ``value``."""
        shared = self.model.first_step_is_shared
        beginners = [t for t in trajectories if shared and t.depth == 0]
        others = [t for t in trajectories if not (shared and t.depth == 0)]
        for group in (beginners, others):
            for first in range(0, len(group), self._rows):
                self._advance_wave(group[first : first + self._rows], judge, begins=group is beginners)

    def _advance_wave(self, wave: Sequence[Trajectory], judge: bool, begins: bool) -> None:
        slots = torch.tensor([self._slot(t) for t in wave], device=self._h.device)
        noise = self._noise(wave)
        if begins:
            state = self._first_steps(wave, noise)
        else:
            state = self._step(Latent(self._h[slots], self._l[slots]), self._encoded(wave), noise).state
        self._h[slots], self._l[slots] = state
        for trajectory in wave:
            trajectory.depth += 1
        self._footprints.record(slots.cpu(), torch.tensor([t.depth for t in wave]), state.h)
        if judge:
            self._judge(wave, state.h)

    def _encoded(self, wave: Sequence[Trajectory]) -> Tensor:
        return torch.stack([self._problems[t.problem].encoded for t in wave])

    def _noise(self, wave: Sequence[Trajectory]) -> Tensor | None:
        model = self.model
        if not model.draws:
            return None
        drawn = noise_of([(t.key, t.depth) for t in wave], (model.draws, *model.h0.shape))
        heat = [0.0 if t.greedy else model.temperature(t.depth) for t in wave]
        drawn *= torch.tensor(heat)[:, None, None, None]
        return drawn.transpose(0, 1).to(self._h.device)

    def _first_steps(self, wave: Sequence[Trajectory], noise: Tensor | None) -> Latent:
        """The first step of each: all trajectories of a problem start from z0, so that only what is drawn differs."""
        self._prepare_first_steps(wave)
        firsts = [first for t in wave if (first := self._problems[t.problem].first) is not None]
        mean, log_sigma = (
            torch.cat([first.prior[part] for first in firsts if first.prior is not None]) for part in (0, 1)
        )
        proposal = torch.cat([first.proposal for first in firsts])
        drawn = Gaussian(mean, log_sigma).sample(None if noise is None else noise[-1])
        return Latent(proposal + drawn.to(proposal.dtype), torch.cat([first.state.l for first in firsts]))

    def _prepare_first_steps(self, wave: Sequence[Trajectory]) -> None:
        """What the first steps of each problem of the wave share, of all new problems at once."""
        numbers = dict.fromkeys(t.problem for t in wave)
        fresh = [problem for number in numbers if (problem := self._problems[number]).first is None]
        if not fresh:
            return
        encoded = torch.stack([problem.encoded for problem in fresh])
        state, proposal, prior, _ = self.model.supervision_step(self.model.start(len(fresh)), encoded)
        assert prior is not None, "only what is drawn from a prior is shared"
        for row, problem in enumerate(fresh):
            own = slice(row, row + 1)
            problem.first = Step(
                Latent(state.h[own], state.l[own]), proposal[own], Gaussian(prior.mean[own], prior.log_sigma[own])
            )

    @torch.inference_mode()
    def conclude(self, trajectories: Sequence[Trajectory]) -> list[Tensor]:
        """The answers, (L,) each, that the trajectories hold now. They may go on."""
        answers: list[Tensor] = []
        for first in range(0, len(trajectories), self.wave):
            wave = trajectories[first : first + self.wave]
            slots = torch.tensor([self._slot(t) for t in wave], device=self._h.device)
            answers += self.model.decode(self._h[slots]).argmax(-1).cpu()
        for trajectory, answer in zip(trajectories, answers, strict=True):
            trajectory.answer = answer
        return answers

    def run(
        self,
        problems: Sequence[int],
        *,
        width: int,
        depth: int,
        halt_threshold: float = 1.0,
        settling: Settling | None = None,
    ) -> list[list[Trajectory]]:
        """``width`` trajectories of each problem to at most ``depth`` steps, concluded and dropped; more than the slots
        take turns.

        A trajectory leaves as soon as it halts (its halt probability exceeds ``halt_threshold``) or, with ``settling``,
        settles.
        """
        if width < 1 or depth < 1:
            raise LimitError(
                "width" if width < 1 else "depth", f"width and depth must be at least 1, not {width} and {depth}"
            )
        results: list[list[Trajectory]] = [[] for _ in problems]
        waiting = [at for at in range(len(problems)) for _ in range(width)][::-1]
        active: list[Trajectory] = []
        while waiting or active:
            while waiting and self._free and len(active) < self.wave:
                at = waiting.pop()
                results[at].append(self.start(problems[at]))
                active.append(results[at][-1])
            if not active:
                raise LimitError(
                    "width", "every slot of this explorer is taken by trajectories that were started before"
                )
            self.advance(active, judge=halt_threshold < 1)
            settled = self.settled(active, settling) if settling is not None else [None] * len(active)
            for trajectory, end in zip(active, settled, strict=True):
                halted = End.HALTED if trajectory.halt > halt_threshold else None
                trajectory.end = halted or end or (End.EXHAUSTED if trajectory.depth >= depth else None)
            leaving = [t for t in active if t.end is not None]
            active = [t for t in active if t.end is None]
            self._leave(leaving, judged=halt_threshold < 1)
        return results

    def settled(self, trajectories: Sequence[Trajectory], settling: Settling) -> list[End | None]:
        """Conclude each, to be asked after every step, and say which have come to rest or go round in circles."""
        slots = torch.tensor([self._slot(t) for t in trajectories])
        depths = torch.tensor([t.depth for t in trajectories])
        self._footprints.record_answers(slots, depths, torch.stack(self.conclude(trajectories)))
        return self._footprints.settled(slots, depths, settling)

    @torch.inference_mode()
    def _leave(self, trajectories: Sequence[Trajectory], judged: bool) -> None:
        """Conclude, judge where the last step did not, and free the slots."""
        self.conclude(trajectories)
        for first in range(0, 0 if judged else len(trajectories), self.wave):
            wave = trajectories[first : first + self.wave]
            self._judge(wave, self._h[torch.tensor([self._slot(t) for t in wave], device=self._h.device)])
        for trajectory in trajectories:
            self.drop(trajectory)

    def _judge(self, wave: Sequence[Trajectory], h: Tensor) -> None:
        halts, values = (logit.sigmoid().tolist() for logit in self.model.judge(h, self._encoded(wave)))
        for trajectory, halt, value in zip(wave, halts, values, strict=True):
            trajectory.halt, trajectory.value = halt, value

    def _take(self) -> int:
        if not self._free:
            raise LimitError("width", f"all {len(self._h)} slots of this explorer are taken; drop a trajectory first")
        return self._free.pop()

    def _slot(self, trajectory: Trajectory) -> int:
        if trajectory.slot is None:
            raise UsageError("this trajectory has been dropped; it can be neither advanced nor concluded")
        return trajectory.slot
