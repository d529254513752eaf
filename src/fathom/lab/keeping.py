"""What comes in of a question while it is sampled: scored, judged, accounted for, and handed on to be kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fathom.budget import Budget, Meter
from fathom.judges.base import Candidate, Verdict, Verifier, bound, verdicts_of
from fathom.lab.datasets import Question
from fathom.lab.gather import GatherSearch, sample_of
from fathom.lab.records import Board, Course, Verdicts, Written
from fathom.lab.spending import rest
from fathom.reasoner import Session
from fathom.records import Spent, Trajectory
from fathom.recount import Recounting

__all__ = ["JUDGE", "SAMPLES", "Keep", "Keeping", "judged", "question_seed"]

SAMPLES, JUDGE = "samples", "judge"
"""What a sweep's account names as paid for, beside strategies that were run live."""

_APART = 4096
"""By how many seeds a question is apart from the next one."""

Keep = Callable[[Sequence[Written | Course | Verdicts], Sequence[tuple[str, Spent]]], None]
"""What is done with what came in, and with what was spent since the last time, each with what it was spent on."""


def question_seed(seed: int, number: int) -> int:
    """The seed of a question: sample i of it is drawn with the i-th seed after it, in a sweep as in a live run."""
    return (seed + number * _APART) % 2**31


async def judged(judge: Verifier, meter: Meter, prompt: str, candidate: Candidate) -> tuple[Verdict, Spent]:
    """The judge's verdict, and what it took: ``meter`` is the judge's alone."""
    before = meter.spent
    (verdict,) = await verdicts_of(judge, prompt, [candidate])
    return verdict, rest(meter.spent, before)


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
        self._session = session
        self._judging = meter.nested(Budget())
        self.judges = {spec: bound(judge, self._judging, session) for spec, judge in judges.items()}
        self._prompt_tokens: int | None = getattr(session, "prompt_tokens", None)
        self._queue: asyncio.Queue[tuple[Trajectory, float] | None] = asyncio.Queue()
        self._seen = 0
        self._scores: dict[str, float] = {}
        self._verdict_spent: dict[tuple[str, Candidate], Spent] = {}
        self._judge_seconds = 0.0
        self._accounted = {SAMPLES: Spent(), JUDGE: Spent()}

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
            course, verdicts = await self._course(trajectory), await self._verdicts(trajectory)
            self.keep([written, *course, *verdicts], self.unaccounted())

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

    async def _course(self, t: Trajectory) -> list[Course]:
        """How it went, where that is known."""
        values: tuple[float, ...] = ()
        boards: list[Board] = []
        if isinstance(self._session, Recounting):
            told = self._session.recount(t)
            values = told.values
            boards = [Board(h.depth, h.answer, h.valid, await self._score(h.answer)) for h in told.held]
        if not (t.logprobs or values):
            return []
        return [Course(self.number, self.depth, sample_of(t.id), t.logprobs, values, tuple(boards))]

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
        said, sample = [], sample_of(t.id)
        for spec, judge in self.judges.items():
            verdict, spent = await judged(judge, self._judging, self.question.prompt, candidate)
            self._judge_seconds += spent.seconds
            spent = self._verdict_spent.setdefault((spec, candidate), spent)
            detail = verdict.detail[:500]
            said.append(Verdicts(self.number, self.depth, sample, spec, verdict.score, verdict.passed, detail, spent))
        return said

    def unaccounted(self) -> list[tuple[str, Spent]]:
        """What was spent since this was last asked, on samples and on judges, each by itself."""
        judging = replace(self._judging.spent, seconds=self._judge_seconds)
        charges = []
        for what, now in ((SAMPLES, rest(self.meter.spent, judging)), (JUDGE, judging)):
            since, self._accounted[what] = rest(now, self._accounted[what]), now
            if what == SAMPLES or since.seconds or since.calls:
                charges.append((what, since))
        return charges
