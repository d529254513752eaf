"""How a trajectory of a language model comes to its answer when its reasoning ends.

One that has stated it before it was cut is asked nothing. One that was cut in it goes on with it. The others are made
to begin it, in the words of their answer form, or are asked for it where the engine cannot continue a text.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from fathom.answers import thought_of
from fathom.budget import Lease, Meter
from fathom.errors import PromptTooLong
from fathom.language.asked import Asked, State
from fathom.language.choice import Choice
from fathom.language.engines.base import EngineCapability, Finish, Prompt, Request, Span
from fathom.language.leases import Leases
from fathom.language.requests import Requests
from fathom.merging import merged
from fathom.records import Message, Trajectory

__all__ = ["Conclusions"]


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


class Conclusions:
    """Asks for the conclusions of a session's trajectories, and reads the answers from them."""

    def __init__(self, asked: Asked, requests: Requests, leases: Leases) -> None:
        self.asked = asked
        self.form = asked.form
        self.traits = requests.engine.traits
        self._requests = requests
        self._leases = leases

    async def of(self, trajectories: Sequence[Trajectory], meter: Meter) -> AsyncGenerator[Trajectory, None]:
        """Each trajectory with its answer, as it comes: first those that have stated it already. Those that are asked
        in the same words, having written nothing yet, are asked at once."""
        alike: dict[Any, list[Trajectory]] = {}
        for t in trajectories:
            if not self.form.tokens or self.form.states(t.text):
                yield await self._stated(t, t.text, meter)
            else:
                alike.setdefault(t.id if t.text else (t.state.revises, t.state.direct, t.state.greedy), []).append(t)
        async with aclosing(merged([self._concluded(group, meter) for group in alike.values()])) as concluded:
            async for trajectory in concluded:
                yield trajectory

    async def _concluded(self, trajectories: Sequence[Trajectory], meter: Meter) -> AsyncGenerator[Trajectory, None]:
        """The conclusions of trajectories that are asked for them in the same words."""
        first = trajectories[0]
        cue = self._cued(first, first.state)
        open_: list[Trajectory] = []
        leases: list[Lease] = []
        for trajectory in trajectories:
            lease = self._leases.of(trajectory, meter, self.form.tokens, self.traits.price)
            if lease.left == 0:
                yield self._cut_short(trajectory, self.form.begun(trajectory.text))
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
            sampling=replace(self.asked.sampling, temperature=0.0) if greedy else self.asked.sampling,
            seed=self.asked.seed + open_[0].id,
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
                        self._requests.timing.concluded(choice.tokens, time.monotonic() - began)
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
            return self._cut_short(concluded, self.form.begun(trajectory.text))
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
        answer, key, parsed = await self.asked.read(text, meter)
        return replace(trajectory, answer=answer, key=key, parsed=parsed)

    def _cued(self, trajectory: Trajectory, state: State) -> _Cue:
        """How the trajectory is brought to its conclusion: it goes on with the answer that it was cut in, or is made to
        begin it, or where the engine cannot continue a text is asked for it."""
        messages = (*(self.asked.direct if state.direct else self.asked.messages), *state.revises)
        tools = replace(self.asked.tools, choice="none") if self.asked.tools else None
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
