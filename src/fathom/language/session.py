"""One question before one language model: samples are trajectories, reasoning tokens are depth.

What a conclusion will take is held back from the start: every trajectory leases the tokens of its reasoning and of its
conclusion together, and the session says how much time concluding takes, measured where the engine's pace is known and
learned from the run where it is not.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from fathom.answers import thought_of
from fathom.budget import Lease, Meter
from fathom.costs import Costs
from fathom.errors import PromptTooLong
from fathom.language.asked import Asked, State
from fathom.language.choice import Choice
from fathom.language.concluding import Conclusions
from fathom.language.engines.base import (
    CHARACTERS,
    Engine,
    EngineTraits,
    Finish,
    Prompt,
    Request,
    Sampling,
    Span,
)
from fathom.language.leases import Leases
from fathom.language.prompts import again
from fathom.language.requests import Requests
from fathom.language.timing import DEFAULT_DEPTH, Timing
from fathom.merging import merged
from fathom.reasoner import Expansion, Reserve
from fathom.records import Trajectory

__all__ = ["LanguageSession"]

LEAST_DEPTH = 8
_NOTHING = Trajectory(-1)  # before the first token
GO_ON = "\nWait"
STEP = "\n\n"  # what separates the steps of a chain of thought


class LanguageSession:
    """See ``fathom.reasoner.Session``; the unit of depth is a reasoning token."""

    def __init__(self, engine: Engine, asked: Asked, timing: Timing) -> None:
        self.engine = engine
        self.asked = asked
        self.form = asked.form
        self.timing = timing
        self._requests = Requests(engine, timing)
        self._leases = Leases()
        self._conclusions = Conclusions(asked, self._requests, self._leases)

    @property
    def traits(self) -> EngineTraits:
        return self.engine.traits

    @property
    def label(self) -> str:
        return self.asked.name

    @property
    def prompt_tokens(self) -> int:
        return self.asked.prompt_tokens

    @property
    def costs(self) -> tuple[Costs]:
        """What plans are made from (``fathom.costs.Costed``)."""
        return (replace(self.timing.costs(self.prompt_tokens), name=self.asked.name),)

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
                    failed = Trajectory(id, reason="failed", error=str(error), state=State(lease=lease))
                    yield self._settled(failed)

    def _left(self, expansion: Expansion, choice: Choice) -> None:
        """Nobody waits any more for what this would have become."""
        if choice.tokens and not expansion.to_step:
            self.timing.cut((expansion.parent or _NOTHING).depth + choice.tokens)

    def _ungrown(self, id: int, expansion: Expansion, lease: Lease) -> Trajectory:
        """Where no token of reasoning is to be had: the parent once more, or nothing, to be asked directly."""
        if expansion.parent is None:
            return Trajectory(id, reason="length", state=State(lease=lease, direct=True, greedy=expansion.greedy))
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
        reread = depth if calls > 1 else 0  # a conclusion reads the reasoning
        read = calls * (self.prompt_tokens + before) + reread
        while len(leases) < n and (size == 0 or meter.fits(size)):
            lease = meter.lease(depth + reserve, calls=calls, prompt_tokens=read, price=price)
            if lease.tokens <= (reserve if depth > 0 else 0):
                lease.close()
                break
            leases.append(lease)
            self._leases.hold(lease, size)
        return depth, leases

    def _start(self, expansion: Expansion) -> State:
        """From where the expansion goes on: nothing, the parent's text, or earlier attempts that it is to better."""
        if expansion.sources:
            return State(revises=again(expansion.sources, expansion.feedback))
        if expansion.parent is None:
            return State()
        state: State = expansion.parent.state
        if state.lease is not None:
            self._leases.free(state.lease)  # the children bring leases of their own
        return replace(state, lease=None)

    def _request(self, expansion: Expansion, start: State, leases: Sequence[Lease], meter: Meter) -> Request:
        unlimited = meter.deadline == math.inf
        return Request(
            Prompt((*self.asked.messages, *start.revises), start.spans, self.asked.tools),
            n=len(leases),
            max_tokens=max(1, min(lease.left for lease in leases) - self.form.tokens),
            sampling=self._sampling(expansion),
            seed=self.asked.seed + expansion.ids[0],
            stream=not unlimited or expansion.floor is not None,
            deadline=None if unlimited else meter.deadline,
        )

    def _sampling(self, expansion: Expansion) -> Sampling:
        sampling = self.asked.sampling
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

    async def _grown(self, id: int, expansion: Expansion, start: State, choice: Choice, lease: Lease) -> Trajectory:
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
        answer, key, parsed = await self.asked.read(text, lease.meter, calls) if finished else (None, "", True)
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
            state=State(spans, lease, start.revises, greedy=expansion.greedy),
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
        for trajectory in trajectories:
            if trajectory.depth and not trajectory.finished:
                self.timing.cut(trajectory.depth)
        async with aclosing(self._conclusions.of(trajectories, meter)) as concluded:
            async for trajectory in concluded:
                self.drop((trajectory,))
                yield trajectory

    def _settled(self, trajectory: Trajectory) -> Trajectory:
        """One that has its answer, or failed, needs nothing more: what it did not use is there for others at once."""
        if trajectory.answer is not None or trajectory.error:
            self.drop((trajectory,))
        return trajectory

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
