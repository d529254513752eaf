"""The one driver: it runs a search core on a session, under a meter, to a deadline.

The driver launches what the core asks for, tells it what comes back, and watches the clock. Shortly before the
deadline, at the moment from which concluding would no longer fit, it stops all growing and has the core wind down:
what is unfinished is concluded. At the deadline itself it takes what there is. When the core is decided, a limit is
reached, or the run is stopped, everything still running is cancelled, upstream requests included, before the driver
returns.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import replace

from fathom import tracing
from fathom.budget import Meter
from fathom.judges.base import Candidate, Verdict, Verifier, bound, verdicts_of
from fathom.reasoner import Expansion, Session
from fathom.records import Problem, StopReason, Trajectory
from fathom.search.base import Action, Conclude, Drop, Grow, Judge, Lost, Search
from fathom.search.holdback import Holdback

__all__ = ["CAUTION", "Driver"]

MARGIN = 0.012
EACH = 20e-6
"""Seconds before the deadline at which the answer is taken, and more for each trajectory: what it takes to gather the
answer, rank the others, and hand them over."""

CAUTION = 1.2
"""By what concluding is held back more while there is no answer at all: the first one must not come too late."""

_Judged = tuple[int, Verdict]


class Driver:
    """Runs one search on one session.

    ``observe`` is called after every batch of events that the core was told of. ``run`` may be called once; ``stop``
    ends it early, from the same event loop, for the given reason.
    """

    def __init__(
        self,
        search: Search,
        session: Session,
        problem: Problem,
        meter: Meter,
        observe: Callable[[], None] | None = None,
    ) -> None:
        self.search = search
        self.session = session
        self.problem = problem
        self.meter = meter
        self._out: set[int] = set()  # the trajectories that are growing
        self._limited = bool(meter.limits)
        self._observe = observe
        self._holdback = Holdback(meter, session)
        self._judges: list[tuple[Verifier, Verifier]] = []  # as the search names them, and bound to this run
        self._events: deque[Trajectory | Lost | _Judged | BaseException] = deque()
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starved = False
        self._begun = False
        self._answered = False
        self._stopped: StopReason | None = None

    @property
    def growing(self) -> int:
        """How many trajectories are growing now."""
        return len(self._out)

    def stop(self, reason: StopReason = StopReason.CANCELLED) -> None:
        """End the run now, with the best so far."""
        self._stopped = reason
        self._wake.set()

    async def run(self) -> StopReason:
        """Drive the search to its end and say why it ended. When this returns or raises, nothing runs any more."""
        try:
            return await self._drive()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._holdback.close()

    async def _drive(self) -> StopReason:
        search = self.search
        limit: StopReason | None = None
        while not (search.stopped or self._stopped):
            if self._begun:  # what is asked for first is begun in any case, so that there is something to conclude
                limit = limit or self._limit()
            if limit and not search.winding_down:
                search.wind_down()
                self.session.stop(frozenset(self._out))  # what is concluding already goes on
                await self._settle()
                self._tell()
            for action in search.ask(self._room()):
                self._launch(action)
            if not self._tasks and not self._events:
                cramped = self._room() == 0
                if search.winding_down or not cramped:
                    break
                # no tokens are left for more, or no time in which anything more could come of it
                limit = limit or (self.meter.refused if self._starved else StopReason.DEADLINE) or StopReason.EXHAUSTED
                continue
            if search.winding_down and self.meter.seconds_left <= self._margin:
                self.session.stop()
                await self._settle(self.meter.seconds_left - MARGIN / 2)
                self._tell()
                break
            await self._next_event(until_hold=limit is None)
            self._tell()
        return search.stopped or self._stopped or limit or StopReason.EXHAUSTED

    def _limit(self) -> StopReason | None:
        """The limit that ends all growing; for the deadline, with what concluding will still take."""
        if not self._limited:
            return None
        late = self.meter.seconds_left < math.inf and self._before_hold() <= 0
        return StopReason.DEADLINE if late else self.meter.exhausted

    @property
    def _margin(self) -> float:
        return MARGIN + EACH * len(self.search.trajectories)

    def _before_hold(self) -> float:
        """Seconds until the moment from which concluding would no longer fit; negative once it is past."""
        return self.meter.seconds_left - self._margin - self._hold()

    def _hold(self) -> float:
        """Seconds that concluding everything unfinished, and judging it, will take."""
        concluding = self.session.reserve(max(1, self.growing + self.search.at_rest)).seconds
        concluding *= 1.0 if self._answered else CAUTION
        return concluding + (self._holdback.seconds if self.search.judge is not None else 0.0)

    def _room(self) -> int:
        return 0 if self._starved else max(0, self.session.room(self.meter) - self.growing)

    async def _settle(self, at_most: float = 0.0) -> None:
        """Let what was stopped hand over what it has: it needs a few turns of the loop, not time."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(MARGIN / 4, at_most))

    async def _next_event(self, until_hold: bool) -> None:
        """Wait for an event, or for the moment at which the clock alone changes what is to be done.

        How early that is may be learned on the way, from what streams in of samples that have not ended: so half of the
        time until then is waited for at a time.
        """
        if self._events:
            return
        self._wake.clear()
        if math.isinf(self.meter.seconds_left):
            await self._wake.wait()
            return
        if until_hold:
            before_hold = self._before_hold()  # none, where the machine stood still since the last look at the clock
            left = max(before_hold / 2, min(before_hold, MARGIN))
        else:
            left = self.meter.seconds_left - self._margin
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, left)):
                await self._wake.wait()

    def _tell(self) -> None:
        if not self._events:
            return
        if self.search.minds_spending:
            self.search.tell_spending(self.meter.remaining, self.meter.elapsed)
        deepest = 0
        while self._events:
            match self._events.popleft():
                case Trajectory(reason="failed") as failed:
                    self._holdback.settle((failed.id,))
                    self.search.tell_lost(Lost((failed.id,), failed.error or "failed"))
                case Trajectory() as trajectory:
                    self._starved = False
                    self._answered = self._answered or trajectory.answer is not None
                    deepest = max(deepest, trajectory.depth)
                    if trajectory.error and trajectory.answer is None:  # its conclusion failed
                        self.search.tell_error(trajectory.error)
                    self.search.tell(trajectory)
                case Lost() as lost:
                    self._holdback.settle(lost.ids)
                    self._starved = self._starved or not lost.error
                    self.search.tell_lost(lost)
                case BaseException() as error:
                    raise error
                case (id, verdict):
                    self._holdback.settle((id,))
                    self.search.tell_verdict(id, verdict)
        self.meter.observe(depth=deepest)
        if self._observe is not None:
            self._observe()

    def _put(self, event: Trajectory | Lost | _Judged | BaseException) -> None:
        self._events.append(event)
        self._wake.set()

    def _launch(self, action: Action) -> None:
        work: Coroutine[None, None, None]
        match action:
            case Grow():
                ids = tuple(self._holdback.before(action.ids, self.search.judge))
                if ids != action.ids:
                    self._lose(set(action.ids) - set(ids))
                if not ids:
                    return
                self._out.update(ids)
                work = self._grow(replace(action, ids=ids))
            case Conclude():
                work = self._conclude(action)
            case Judge():
                self._holdback.ask(action.ids)
                work = self._ask_judge(action, self._judge())
            case Drop():
                self._holdback.settle(action.ids)
                self.session.stop(action.ids)
                self.session.drop([t for id in action.ids if (t := self.search.trajectories.get(id)) is not None])
                return
        self._begun = True
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._put(error)

    async def _grow(self, action: Grow) -> None:
        expansion = Expansion(
            action.ids,
            None if action.parent is None else self.search.trajectories[action.parent],
            units=action.units,
            at_least=action.at_least,
            to_step=action.to_step,
            greedy=action.greedy,
            sources=tuple(self.search.trajectories[id] for id in action.sources),
            feedback=action.feedback,
            member=action.member,
            floor=action.floor,
        )
        out = set(action.ids)
        async with aclosing(self.session.expand(expansion, self.meter)) as grown:
            async for trajectory in grown:
                out.discard(trajectory.id)
                self._out.discard(trajectory.id)
                self._put(trajectory)
        self._lose(out)

    def _lose(self, ids: set[int]) -> None:
        if ids:
            self._out -= ids
            self._put(Lost(tuple(sorted(ids))))

    async def _conclude(self, action: Conclude) -> None:
        trajectories = [self.search.trajectories[id] for id in action.ids]
        async with aclosing(self.session.conclude(trajectories, self.meter)) as concluded:
            async for trajectory in concluded:
                self._put(trajectory)

    def _judge(self) -> Verifier:
        """The judge that the search has now, on this run's account; the stages of a search may differ in it."""
        judge = self.search.judge
        assert judge is not None, "a search that asks for judgements has a judge"
        for said, asked in self._judges:
            if said is judge:
                return asked
        self._judges.append((judge, bound(judge, self._holdback.purse, self.session)))
        return self._judges[-1][1]

    @property
    def _judge_name(self) -> str:
        return self.search.judge.name if self.search.judge is not None else ""

    async def _ask_judge(self, action: Judge, judge: Verifier) -> None:
        trajectories = [self.search.trajectories[id] for id in action.ids]
        candidates = [
            Candidate(t.text, t.answer, t.finished, t.logprobs, t.top_logprobs, t.value, t.valid) for t in trajectories
        ]
        began = time.monotonic()
        with tracing.judgement(self._judge_name, len(candidates)):
            verdicts = await verdicts_of(judge, self.problem.text, candidates)
        self._holdback.took(time.monotonic() - began)
        for trajectory, verdict in zip(trajectories, verdicts, strict=True):
            self._put((trajectory.id, verdict))
