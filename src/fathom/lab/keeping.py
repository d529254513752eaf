"""What comes in of a question while it is sampled: scored, judged, accounted for, and handed on to be kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from fathom.budget import Meter
from fathom.judges.base import Candidate, Verifier, bound, verdicts_of
from fathom.lab.datasets import Question
from fathom.lab.gather import GatherSearch, sample_of
from fathom.lab.records import GREEDY, Verdicts, Written
from fathom.reasoner import Session
from fathom.records import Spent, Trajectory

__all__ = ["Keep", "Keeping", "question_seed", "total"]

_APART = 4096
"""By how many seeds a question is apart from the next one."""

Keep = Callable[[Sequence[Written | Verdicts], Spent], None]
"""What is done with what came in, and with what was spent since the last time."""


def question_seed(seed: int, number: int) -> int:
    """The seed of a question: sample i of it is drawn with the i-th seed after it, in a sweep as in a live run."""
    return (seed + number * _APART) % 2**31


class Keeping:
    """What comes in of one question at one depth, scored, judged and kept as it comes."""

    def __init__(
        self,
        judges: Mapping[str, Verifier],
        keep: Keep,
        seed: int,
        number: int,
        question: Question,
        depth: int,
        search: GatherSearch,
        session: Session,
        meter: Meter,
    ) -> None:
        self.keep, self.seed = keep, question_seed(seed, number)
        self.number, self.question, self.depth, self.search, self.meter = number, question, depth, search, meter
        self.judges = {spec: bound(judge, meter, session) for spec, judge in judges.items()}
        self._prompt_tokens: int | None = getattr(session, "prompt_tokens", None)
        self._queue: asyncio.Queue[tuple[Trajectory, float] | None] = asyncio.Queue()
        self._seen = 0
        self._scores: dict[str, float] = {}
        self._accounted = Spent()
        self._conclusions = 0

    def observe(self) -> None:
        """Something came in."""
        for id in self.search.settled[self._seen :]:
            self._queue.put_nowait((self.search.trajectories[id], self.meter.elapsed))
        self._seen = len(self.search.settled)

    def end(self) -> None:
        """Nothing more will come in."""
        self.observe()
        self._queue.put_nowait(None)

    async def run(self) -> None:
        """Keep what comes in until the end."""
        while (item := await self._queue.get()) is not None:
            trajectory, seconds = item
            written = await self._written(trajectory, seconds)
            verdicts = [] if written.sample == GREEDY else await self._verdicts(trajectory)
            self.keep([written, *verdicts], self.unaccounted())

    async def _written(self, t: Trajectory, seconds: float) -> Written:
        sample = sample_of(t.id)
        return Written(
            question=self.number,
            depth=self.depth,
            sample=sample,
            key=t.key,
            parsed=t.parsed,
            finished=t.finished,
            score=await self._score(t.answer),
            steps=t.depth,
            conclusion=self._conclusion(t),
            prompt_tokens=self._read(),
            seconds=seconds,
            logprob=t.mean_logprob,
            value=t.value,
            valid=t.valid,
            seed=self.seed + max(0, sample),
            reason=t.reason,
            answer=t.answer,
            text=t.text,
        )

    async def _score(self, answer: str | None) -> float:
        if answer is None:
            return 0.0
        if answer not in self._scores:
            self._scores[answer] = await self.question.score(answer)
        return self._scores[answer]

    def _conclusion(self, t: Trajectory) -> int:
        """The tokens of a trajectory's conclusion: each has a log-probability, where the engine gives them.

        Where it does not, it is what conclusions have taken on average in this run.
        """
        if t.logprobs:
            return max(0, len(t.logprobs) - t.depth)
        concluded = sum(not one.finished and one.answer is not None for one in self.search.trajectories.values())
        spent = self.meter.spent.tokens_by_role.get("conclude", 0)
        return round(spent / concluded) if concluded and not t.finished else 0

    def _read(self) -> int:
        """The length of the prompt, as the session counts it, or as the server charged it for each choice."""
        if self._prompt_tokens is not None:
            return self._prompt_tokens
        spent = self.meter.spent
        return round((spent.prompt_tokens + spent.reused_tokens) / max(1, spent.calls))

    async def _verdicts(self, t: Trajectory) -> list[Verdicts]:
        candidate = Candidate(t.text, t.answer, t.finished, t.logprobs, t.top_logprobs, t.value, t.valid)
        said = []
        for spec, judge in self.judges.items():
            (verdict,) = await verdicts_of(judge, self.question.prompt, [candidate])
            said.append(
                Verdicts(self.number, self.depth, t.id, spec, verdict.score, verdict.passed, verdict.detail[:500])
            )
        return said

    def unaccounted(self) -> Spent:
        """What was spent since this was last asked."""
        now, before = self.meter.spent, self._accounted
        self._accounted = now
        return Spent(
            seconds=now.seconds - before.seconds,
            tokens=now.tokens - before.tokens,
            prompt_tokens=now.prompt_tokens - before.prompt_tokens,
            reused_tokens=now.reused_tokens - before.reused_tokens,
            calls=now.calls - before.calls,
            flops=now.flops - before.flops,
            cost=None if now.cost is None else now.cost - (before.cost or 0.0),
        )


def total(a: Spent, b: Spent) -> Spent:
    """What both spent together."""
    return Spent(
        seconds=a.seconds + b.seconds,
        tokens=a.tokens + b.tokens,
        prompt_tokens=a.prompt_tokens + b.prompt_tokens,
        reused_tokens=a.reused_tokens + b.reused_tokens,
        calls=a.calls + b.calls,
        flops=a.flops + b.flops,
        cost=None if a.cost is None or b.cost is None else a.cost + b.cost,
    )
