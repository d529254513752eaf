"""One question before one language model: samples are trajectories, reasoning tokens are depth.

What a conclusion will take is held back from the start: every trajectory leases the tokens of its reasoning and of its
conclusion together, and the session says how much time concluding takes, measured where the engine's pace is known and
learned from the run where it is not.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fathom.answers import thought_of
from fathom.budget import Lease, Meter
from fathom.costs import Costs
from fathom.errors import PromptTooLong
from fathom.language.choice import Choice
from fathom.language.engines.base import (
    CHARACTERS,
    Engine,
    EngineCapability,
    EngineTraits,
    Finish,
    Prompt,
    Request,
    Sampling,
    Span,
)
from fathom.language.leases import Leases
from fathom.language.prompts import Form, again
from fathom.language.requests import Requests
from fathom.language.structured import read_calls
from fathom.language.timing import DEFAULT_DEPTH, Timing
from fathom.merging import merged
from fathom.reasoner import Expansion, Reserve
from fathom.records import Message, ToolCall, Tools, Trajectory

__all__ = ["LanguageSession"]

LEAST_DEPTH = 8
TELLING = 0.02
"""Seconds before the deadline at which an answer's meaning is not made out any more: algebra in another thread holds
the interpreter for 5 ms at a time, and the answer has still to be told."""
_NOTHING = Trajectory(-1)  # before the first token
GO_ON = "\nWait"
STEP = "\n\n"  # what separates the steps of a chain of thought


@dataclass(frozen=True, slots=True)
class _State:
    """What a trajectory keeps for itself: its text as spans with token ids, and the lease that still pays for it."""

    spans: tuple[Span, ...] = ()
    lease: Lease | None = None
    revises: tuple[Message, ...] = ()
    direct: bool = False  # no reasoning was wanted, and the model is asked accordingly
    greedy: bool = False


@dataclass(frozen=True, slots=True)
class _Cue:
    """How a trajectory is brought to its conclusion: what the model reads, the words that it is made to begin with, and
    the answer that it was cut in, which it goes on with."""

    prompt: Prompt
    said: str = ""
    begun: str = ""

    @property
    def head(self) -> str:
        """What of the answer stands before the model says a word; empty where it is asked for all of it."""
        return self.begun or self.said


class LanguageSession:
    """See ``fathom.reasoner.Session``; the unit of depth is a reasoning token."""

    def __init__(
        self,
        engine: Engine,
        messages: tuple[Message, ...],
        direct: tuple[Message, ...],
        form: Form,
        sampling: Sampling,
        *,
        seed: int,
        timing: Timing,
        prompt_tokens: int,
        tools: Tools | None = None,
    ) -> None:
        self.engine = engine
        self.form = form
        self.sampling = sampling
        self.seed = seed
        self.prompt_tokens = prompt_tokens
        self.tools = tools
        self.messages = messages
        self.direct = direct
        self.timing = timing
        self._requests = Requests(engine, timing)
        self._leases = Leases()

    @property
    def traits(self) -> EngineTraits:
        return self.engine.traits

    @property
    def label(self) -> str:
        return self.traits.model

    @property
    def costs(self) -> tuple[Costs]:
        """What plans are made from (``fathom.costs.Costed``)."""
        return (self.timing.costs(self.prompt_tokens),)

    def room(self, meter: Meter) -> int:
        return self.timing.room(meter)

    def reserve(self, width: int) -> Reserve:
        return self.timing.reserve(width)

    async def expand(self, expansion: Expansion, meter: Meter) -> AsyncGenerator[Trajectory, None]:
        depth, leases = self._leases_for(expansion, self._depth(expansion, meter), meter)
        if expansion.parent is None:  # a continuation is no new line of thought: others are dropped for it
            meter.observe(width=len(leases))
        work = list(zip(expansion.ids, leases, strict=False))
        if depth == 0:
            for id, lease in work:
                yield self._ungrown(id, expansion, lease)
        elif expansion.at_least:
            async with aclosing(merged([self._extended(id, expansion, lease) for id, lease in work])) as grown:
                async for trajectory in grown:
                    yield self._settled(trajectory)
        elif work:
            start = self._start(expansion)
            request = self._request(expansion, start, leases, meter)
            left = partial(self._left, expansion)
            run = self._requests.run(request, expansion.ids, leases, "sample", floor=expansion.floor, left=left)
            try:
                async with aclosing(run) as choices:
                    async for index, choice in choices:
                        yield self._settled(await self._grown(work[index][0], expansion, start, choice, leases[index]))
            except PromptTooLong as error:
                if not expansion.sources:
                    raise
                for id, lease in work:  # the attempts that were to be shown are too long, not the question
                    failed = Trajectory(id, reason="failed", error=str(error), state=_State(lease=lease))
                    yield self._settled(failed)

    def _left(self, expansion: Expansion, choice: Choice) -> None:
        """Nobody waits any more for what this would have become."""
        if choice.tokens and not expansion.to_step:
            self.timing.cut((expansion.parent or _NOTHING).depth + choice.tokens)

    def _ungrown(self, id: int, expansion: Expansion, lease: Lease) -> Trajectory:
        """Where no token of reasoning is to be had: the parent once more, or nothing, to be asked directly."""
        if expansion.parent is None:
            return Trajectory(id, reason="length", state=_State(lease=lease, direct=True, greedy=expansion.greedy))
        state = replace(self._start(expansion), lease=lease)
        return replace(expansion.parent, id=id, parent=expansion.parent.id, reason="length", state=state)

    def _depth(self, expansion: Expansion, meter: Meter) -> int:
        """The tokens to grow by: as asked, as the context has room, and none where there is no time for a few."""
        depth = DEFAULT_DEPTH if expansion.units is None else expansion.units
        if self.timing.depth(meter, len(expansion.ids)) < LEAST_DEPTH:
            return 0
        if self.traits.context_length is not None:
            used = self.prompt_tokens + (expansion.parent.depth if expansion.parent else 0) + _shown(expansion)
            depth = min(depth, self.traits.context_length - used - self.form.tokens - len(self.form.cue))
        return max(0, depth)

    def _leases_for(self, expansion: Expansion, depth: int, meter: Meter) -> tuple[int, list[Lease]]:
        """The depth that fits, and a lease for each trajectory, as many as the limits have room for.

        The tokens are shared evenly. Where they do not even pay for a conclusion, there is one, at once and short.
        """
        n = len(expansion.ids)
        reserve = self.form.tokens
        while n > 1 and meter.tokens_left / n < reserve + min(depth, LEAST_DEPTH):
            n -= 1
        depth = int(min(depth, max(0.0, meter.tokens_left / n - reserve)))
        if reserve and meter.calls_left < 2:
            depth = 0
        before = (expansion.parent.depth if expansion.parent else 0) + _shown(expansion)
        price, each = self.traits.price, self.traits.bytes_per_token
        size = each * (self.prompt_tokens + before + depth)
        leases: list[Lease] = []
        calls = (depth > 0) + (reserve > 0)
        read = calls * (self.prompt_tokens + before) + (depth if calls > 1 else 0)  # a conclusion reads the reasoning
        while len(leases) < n and (size == 0 or meter.fits(size)):
            lease = meter.lease(depth + reserve, calls=calls, prompt_tokens=read, price=price)
            if lease.tokens <= (reserve if depth > 0 else 0):
                lease.close()
                break
            leases.append(lease)
            self._leases.hold(lease, size)
        return depth, leases

    def _start(self, expansion: Expansion) -> _State:
        """From where the expansion goes on: nothing, the parent's text, or earlier attempts that it is to better."""
        if expansion.sources:
            return _State(revises=again(expansion.sources, expansion.feedback))
        if expansion.parent is None:
            return _State()
        state: _State = expansion.parent.state
        if state.lease is not None:
            self._leases.free(state.lease)  # the children bring leases of their own
        return replace(state, lease=None)

    def _request(self, expansion: Expansion, start: _State, leases: Sequence[Lease], meter: Meter) -> Request:
        unlimited = meter.deadline == math.inf
        return Request(
            Prompt((*self.messages, *start.revises), start.spans, self.tools),
            n=len(leases),
            max_tokens=max(1, min(lease.left for lease in leases) - self.form.tokens),
            sampling=self._sampling(expansion),
            seed=self.seed + expansion.ids[0],
            stream=not unlimited or expansion.floor is not None,
            deadline=None if unlimited else meter.deadline,
        )

    def _sampling(self, expansion: Expansion) -> Sampling:
        sampling = self.sampling
        if expansion.greedy:
            sampling = replace(sampling, temperature=0.0)
        if expansion.to_step:
            sampling = replace(sampling, stop=(*sampling.stop, STEP))
        return sampling

    async def _extended(self, id: int, expansion: Expansion, lease: Lease) -> AsyncGenerator[Trajectory, None]:
        """Budget forcing (arXiv 2501.19393): when the model stops before ``at_least`` tokens, it is made to go on."""
        trajectory: Trajectory | None = None
        while trajectory is None or (trajectory.finished and trajectory.depth < expansion.at_least):
            start = self._start(expansion)
            if trajectory is not None:
                start = replace(trajectory.state, spans=(*_reopened(trajectory.state.spans), Span(GO_ON)))
                if lease.left <= self.form.tokens or not lease.call_again():
                    break
            request = self._request(replace(expansion, ids=(id,)), start, [lease], lease.meter)
            before = trajectory or expansion.parent or _NOTHING
            run = self._requests.run(request, (id,), [lease], "sample", floor=expansion.floor)
            async with aclosing(run) as choices:
                async for _, choice in choices:
                    base = replace(expansion, parent=trajectory or expansion.parent)
                    trajectory = await self._grown(id, base, start, choice, lease)
            if trajectory is None or trajectory.depth == before.depth:
                break  # it will not be made to go on
        if trajectory is not None:
            yield trajectory

    async def _read(self, text: str, meter: Meter, calls: Sequence[ToolCall] = ()) -> tuple[str | None, str, bool]:
        """``answer``, ``key`` and ``parsed`` of a trajectory with this text and these calls of tools.

        An answer whose meaning cannot be made out in the time that is left is one all the same.
        """
        if calls:
            return read_calls(calls, self.tools)
        answer = self.form.extract(text)
        if answer is None:
            return None, "", True
        if not self.form.ponders(answer):
            return answer, *self.form.meaning(answer)
        if (left := meter.seconds_left - TELLING) > 0:
            with suppress(TimeoutError):
                meaning = asyncio.to_thread(self.form.meaning, answer)
                return answer, *await asyncio.wait_for(meaning, left if left < math.inf else None)
        return answer, self.form.unfinished(answer)[1], False

    async def _grown(self, id: int, expansion: Expansion, start: _State, choice: Choice, lease: Lease) -> Trajectory:
        before = expansion.parent or _NOTHING
        spans = (*start.spans, choice.span)
        text = "".join([span.text for span in spans])
        depth = before.depth + choice.tokens
        finished = choice.finish is Finish.STOP
        if finished and expansion.to_step and self._goes_on(choice, text):
            finished = False
            spans, text = (*spans, Span(STEP)), text + STEP
        if finished:
            self.timing.finished(depth)
        calls = choice.tool_calls if finished and choice.calls else ()
        answer, key, parsed = await self._read(text, lease.meter, calls) if finished else (None, "", True)
        return Trajectory(
            id,
            parent=before.id if before is not _NOTHING and before.id != id else None,
            depth=depth,
            text=text,
            answer=answer,
            key=key,
            parsed=parsed,
            finished=finished,
            reason=self._reason(choice, finished),
            **choice.tokens_after(before),
            tool_calls=calls,
            error=choice.error,
            state=_State(spans, lease, start.revises, greedy=expansion.greedy),
        )

    def _reason(self, choice: Choice, finished: bool) -> str:
        if choice.finish is Finish.STOP and not finished:
            return "step"
        return "weak" if choice.weak else _REASONS[choice.finish or Finish.CANCELLED]

    def _goes_on(self, choice: Choice, text: str) -> bool:
        """Whether a choice that stopped has only come to the end of a step.

        Where the engine does not tell what stopped it, it has, unless it wrote nothing or has marked an answer as such.
        """
        if choice.stopped_by is not None:
            return choice.stopped_by == STEP
        return choice.tokens > 0 and not self.form.marked(text)

    async def conclude(self, trajectories: Sequence[Trajectory], meter: Meter) -> AsyncGenerator[Trajectory, None]:
        """Those that are asked for their answers in the same words, having written nothing yet, are asked at once, and
        those that had come to their answers before they were cut not at all."""
        alike: dict[Any, list[Trajectory]] = {}
        for t in trajectories:
            if t.depth and not t.finished:
                self.timing.cut(t.depth)
            if not self.form.tokens or self.form.states(t.text):
                self.drop((t,))
                yield await self._stated(t, t.text, meter)
                continue
            alike.setdefault(t.id if t.text else (t.state.revises, t.state.direct, t.state.greedy), []).append(t)
        async with aclosing(merged([self._concluded(group, meter) for group in alike.values()])) as concluded:
            async for trajectory in concluded:
                self.drop((trajectory,))
                yield trajectory

    def _settled(self, trajectory: Trajectory) -> Trajectory:
        """One that has its answer, or failed, needs nothing more: what it did not use is there for others at once."""
        if trajectory.answer is not None or trajectory.error:
            self.drop((trajectory,))
        return trajectory

    async def _concluded(self, trajectories: Sequence[Trajectory], meter: Meter) -> AsyncGenerator[Trajectory, None]:
        """The conclusions of trajectories that are asked for them in the same words."""
        first = trajectories[0]
        cue = self._cued(first, first.state)
        open_: list[Trajectory] = []
        leases: list[Lease] = []
        for trajectory in trajectories:
            lease = self._leases.of(trajectory, meter, self.form.tokens, self.traits.price)
            if lease.left == 0:
                yield self._cut_short(trajectory, cue.begun)
            else:
                open_.append(trajectory)
                leases.append(lease)
        if not open_:
            return
        greedy = first.depth > 0 or first.state.greedy
        request = Request(
            cue.prompt,
            n=len(open_),
            stream=len(open_) > 1,
            max_tokens=min(self.form.tokens, *(lease.left for lease in leases)),
            sampling=replace(self.sampling, temperature=0.0) if greedy else self.sampling,
            seed=self.seed + open_[0].id,
            deadline=None if meter.deadline == math.inf else meter.deadline,
        )
        began = time.monotonic()
        ids = [trajectory.id for trajectory in open_]
        run = self._requests.run(request, ids, leases, "conclude", self.form.closed if cue.head else None)
        try:
            async with aclosing(run) as choices:
                async for index, choice in choices:
                    self._leases.free(leases[index])
                    whole = choice.complete or choice.finish is Finish.STOP
                    if whole and not choice.error:
                        self.timing.concluded(choice.tokens, time.monotonic() - began)
                    yield await self._with_conclusion(open_[index], cue, choice, whole, meter)
        except PromptTooLong as error:
            for trajectory in open_:
                yield replace(trajectory, error=str(error))

    async def _with_conclusion(
        self, trajectory: Trajectory, cue: _Cue, choice: Choice, whole: bool, meter: Meter
    ) -> Trajectory:
        """The trajectory with its answer, ``choice`` being what the model went on with."""
        if choice.error:
            return replace(trajectory, error=choice.error)
        stated = choice.span.text
        concluded = replace(trajectory, text=trajectory.text + cue.said + stated, **choice.tokens_after(trajectory))
        if not (cue.begun + stated).strip():
            return concluded
        text = self.form.complete(cue.head + stated)
        if whole:
            return await self._stated(concluded, text, meter)
        return self._cut_short(concluded, text)

    def _cut_short(self, trajectory: Trajectory, text: str) -> Trajectory:
        """The trajectory with what there is of the answer that was cut in ``text``.

        Nobody knows what it would have become: it must not outvote a whole one.
        """
        if (answer := self.form.extract(text)) is None:
            return trajectory
        answer, key = self.form.unfinished(answer)
        return replace(trajectory, answer=answer, key=key, parsed=False)

    async def _stated(self, trajectory: Trajectory, text: str, meter: Meter) -> Trajectory:
        """The trajectory with the answer that ``text`` states."""
        answer, key, parsed = await self._read(text, meter)
        return replace(trajectory, answer=answer, key=key, parsed=parsed)

    def _cued(self, trajectory: Trajectory, state: _State) -> _Cue:
        """How the trajectory is brought to its conclusion: it goes on with the answer that it was cut in, or is made to
        begin it, or where the engine cannot continue a text is asked for it."""
        messages = (*(self.direct if state.direct else self.messages), *state.revises)
        tools = replace(self.tools, choice="none") if self.tools else None
        if EngineCapability.PREFIX not in self.traits.capabilities:
            if trajectory.text:
                messages = (*messages, Message("assistant", trajectory.text), Message("user", self.form.request))
            return _Cue(Prompt(messages, tools=tools))
        if begun := self.form.begun(trajectory.text):
            return _Cue(Prompt(messages, state.spans, tools), begun=begun)
        said = self.form.cue if trajectory.text else self.form.bare_cue
        if closing := thought_of(trajectory.text).closing:
            said = f"\n{closing}{said}"
        return _Cue(Prompt(messages, (*state.spans, Span(said)), tools), said)

    def drop(self, trajectories: Sequence[Trajectory]) -> None:
        for trajectory in trajectories:
            self._leases.drop(trajectory)

    def stop(self, ids: Collection[int] | None = None) -> None:
        self._requests.stop(ids)

    async def aclose(self) -> None:
        self.stop()
        self._leases.close()


_REASONS = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.CANCELLED: "cut", Finish.FAILED: "failed"}


def _shown(expansion: Expansion) -> int:
    """About how many tokens the attempts take that the model is shown, with what was found about them."""
    if not expansion.sources:
        return 0
    words = sum(len(message.content) for message in again((), expansion.feedback))
    return sum(trajectory.depth for trajectory in expansion.sources) + -(-words // CHARACTERS)


def _reopened(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    """The spans with a reasoning section at their end left open again, so that the model goes on thinking."""
    text = "".join(span.text for span in spans)
    ended = thought_of(text).ended
    return spans if ended < 0 else (Span(text[:ended].rstrip()),)
