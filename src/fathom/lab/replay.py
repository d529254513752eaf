"""A strategy played on a pool instead of a model: the very search core that runs live is asked and told.

Time passes in steps: all trajectories that run advance by one unit of depth a step, as they do in a batch, in the order
in which they were started, so one is over as many steps after its start as it has units, conclusion included. What is
cut when the search is decided has cost what it had run. On an engine that works like this, the same seeds give the
same result live, to the token.

Only searches over independent samples can be played. One that steers generation asks for what no pool holds, and is
refused with the action that showed it.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from fathom.errors import UsageError
from fathom.judges.base import Verdict, judge_needs
from fathom.lab.pool import Pool
from fathom.lab.records import GREEDY
from fathom.reasoner import Capability
from fathom.records import Candidate, StopReason, Trajectory
from fathom.search.base import Conclude, Drop, Grow, Judge, Search, Strategy, Terms

__all__ = ["Played", "replay"]

UNLIMITED_ROOM = 1 << 20
_Turn = tuple[int, ...]
_FIRST: _Turn = ()


@dataclass(frozen=True, slots=True)
class Played:
    """What a strategy came to on one question.

    ``score`` is the dataset's for the answer. ``tokens`` are all units generated, those of cut trajectories too;
    ``steps`` the steps that it took, ``width`` the trajectories that were started, ``verdicts`` how many of them its
    judge was asked about.
    """

    answer: str | None
    score: float
    confidence: float
    stopped: StopReason
    candidates: tuple[Candidate, ...]
    best: int | None
    tokens: int
    steps: int
    width: int
    valid: bool | None = None
    verdicts: int = 0


def replay(
    strategy: Strategy,
    pool: Pool,
    q: int,
    *,
    width: int | None = None,
    order: Sequence[int] | None = None,
    room: int = UNLIMITED_ROOM,
) -> Played:
    """Play ``strategy`` on the question at position ``q`` of the pool, under a budget of ``width`` trajectories.

    ``order`` says which sample stands for the trajectory with number i (default: sample i); ``room`` how many run
    together at most. Raises UsageError for a strategy that asks for what the pool does not hold.
    """
    if Capability.TOP_LOGPROBS in strategy.required - judge_needs(getattr(strategy, "judge", None)):
        raise UsageError(f"{strategy} looks at every token's alternatives, which no pool keeps: run it live")
    core = strategy.begin(Terms(width=width, depth=pool.depth))
    return _Playing(strategy, core, pool, q, range(pool.width) if order is None else order, room).run()


class _Playing:
    """One play: the model, the judge and the clock in one.

    A time is a number of steps from the start. Within a step all that runs has its turn in order: what is started on
    some event has its turn right behind the trajectory whose event it was.
    """

    def __init__(self, strategy: Strategy, core: Search, pool: Pool, q: int, order: Sequence[int], room: int) -> None:
        self.strategy, self.core, self.pool, self.q, self.order, self.room = strategy, core, pool, q, order, room
        self.now, self.turn = 0, _FIRST
        self.sample: dict[int, int] = {}
        self.growing: set[int] = set()
        self.began: dict[int, tuple[int, _Turn]] = {}  # what runs now, growing or concluding, since when
        self.tokens = 0  # of all that is over
        self.width = self.verdicts = 0
        self._due: list[tuple[int, _Turn, int, Trajectory | Verdict]] = []
        self._launched = 0

    def run(self) -> Played:
        core = self.core
        while core.stopped is None:
            for action in core.ask(max(0, self.room - len(self.growing))):
                self._launch(action)
            if not self._due:
                break
            self.now, self.turn, id, event = heapq.heappop(self._due)
            self._tell(id, event)
        return self._played()

    def _launch(self, action: object) -> None:
        match action:
            case Grow(ids, parent=None, at_least=0, to_step=False, sources=(), member=0, floor=None):
                self._check_depth(action.units)
                for id in ids:
                    self._grow(id, greedy=action.greedy)
            case Conclude(ids):
                for id in ids:
                    whole = self.pool.trajectory(self.q, self.sample[id], id)
                    self._begin(id, self._conclusion(id), whole)
            case Judge(ids):
                assert self.core.judge is not None, "a search that asks for judgements has a judge"
                self.verdicts += len(ids)
                for id in ids:
                    self._put(0, id, self.pool.verdict(str(self.core.judge), self.q, self.sample[id]))
            case Drop(ids) if not self.growing.intersection(ids):
                return
            case _:
                raise UsageError(
                    f"{self.strategy} steers generation ({type(action).__name__.lower()}), which no pool can replay: "
                    f"run it live, with fathom sweep … --live"
                )

    def _check_depth(self, units: int | None) -> None:
        if units != self.pool.depth:
            said = "the model's own limit" if self.pool.depth is None else self.pool.depth
            raise UsageError(f"{self.strategy} asks for a depth of {units}; this pool was drawn at {said}")

    def _grow(self, id: int, *, greedy: bool) -> None:
        place = id if greedy else self.order[id] if id < len(self.order) else len(self.order)
        if not greedy and place >= self.pool.width:
            raise UsageError(
                f"{self.strategy} asks for more than the {self.pool.width} samples a question of this pool"
            )
        self.sample[id] = GREEDY if greedy else place
        self.width += 1
        whole = self.pool.trajectory(self.q, self.sample[id], id)
        columns, at = (self.pool.greedy, 0) if greedy else (self.pool.samples, place)
        grown = whole
        if columns.concluded[self.q, at]:
            grown = Trajectory(id, depth=whole.depth, finished=whole.finished, reason=whole.reason)
        self.growing.add(id)
        self._begin(id, whole.depth, grown)

    def _conclusion(self, id: int) -> int:
        sample = self.sample[id]
        columns, at = (self.pool.greedy, 0) if sample == GREEDY else (self.pool.samples, sample)
        return int(columns.conclusion[self.q, at])

    def _begin(self, id: int, steps: int, result: Trajectory) -> None:
        self.began[id] = self.now, self._put(steps, id, result)

    def _put(self, after: int, id: int, event: Trajectory | Verdict) -> _Turn:
        self._launched += 1
        turn = (*self.turn, self._launched)
        heapq.heappush(self._due, (self.now + after, turn, id, event))
        return turn

    def _ran(self, id: int) -> int:
        """The units that something running has had so far: none yet in this step where its turn is still to come."""
        began, turn = self.began[id]
        return max(0, self.now - began - (turn > self.turn))

    def _tell(self, id: int, event: Trajectory | Verdict) -> None:
        if isinstance(event, Verdict):
            self.core.tell_verdict(id, event)
            return
        self.tokens += self._ran(id)
        del self.began[id]
        self.growing.discard(id)
        self.core.tell(event)

    def _played(self) -> Played:
        standing = self.core.standing
        best = standing.best
        score = 0.0
        if best is not None:
            sample = self.sample[best]
            columns, at = (self.pool.greedy, 0) if sample == GREEDY else (self.pool.samples, sample)
            score = float(columns.score[self.q, at])
        return Played(
            answer=standing.answer,
            score=score,
            confidence=standing.confidence,
            stopped=self.core.stopped or StopReason.EXHAUSTED,
            candidates=standing.candidates,
            best=best,
            tokens=self.tokens + sum(map(self._ran, self.began)),
            steps=self.now,
            width=self.width,
            valid=standing.valid,
            verdicts=self.verdicts,
        )
