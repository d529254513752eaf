"""What a judge is: something that looks at candidate answers to one problem and says how good each of them is.

Verifiers (exact match, unit tests …), reward models and model judges all stand behind `Verifier`, so that a search
never knows which of them it is spending on. Three rules hold for all: identical candidates are judged once, a judge
that fails costs its verdict, never the run, and one that spends does so on the run's account (`Spender`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Protocol, runtime_checkable

from fathom.budget import Meter
from fathom.errors import SpecError
from fathom.reasoner import Capability, Session

__all__ = [
    "Candidate",
    "EachVerifier",
    "Once",
    "Spender",
    "Timing",
    "Verdict",
    "Verifier",
    "judge_needs",
    "most_of",
    "require_seconds",
    "timing_of",
    "verdicts_of",
]


class Timing(StrEnum):
    """When a judge is best asked. Judges say so in an attribute ``timing``; without one it is ``each``."""

    EACH = "each"  # as candidates come: it can accept one, which ends the search
    DIFFERING = "differing"  # it only grades: not before two candidates differ, since equals need no ranking
    TOGETHER = "together"  # it compares candidates with one another: once, when all are in


@dataclass(frozen=True, slots=True)
class Candidate:
    """One attempt at a problem: `text`, all that the model wrote, and `answer`, what it states as its final answer.

    `finished` is False for one that was cut. `logprobs` has a natural-log probability per generated token, and
    `top_logprobs` per token those of the likeliest ones, highest first, where the engine gave them. They are not
    compared: candidates of the same text are identical. `value` and `valid` are what the model itself says of it, see
    `fathom.records.Trajectory`.
    """

    text: str
    answer: str | None = None
    finished: bool = True
    logprobs: tuple[float, ...] = field(default=(), compare=False, repr=False)
    top_logprobs: tuple[tuple[float, ...], ...] = field(default=(), compare=False, repr=False)
    value: float | None = None
    valid: bool | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge says of one candidate.

    `score` lies in [0, 1]. `passed` is True or False where the judge decides, and None where it only grades or where it
    could not judge at all; `detail` then says why. A score that is out of range or NaN is a `ValueError`.
    """

    score: float
    passed: bool | None = None
    detail: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"a verdict's score must lie in [0, 1], not {self.score!r}")

    @property
    def empty(self) -> bool:
        """Whether it says nothing of the candidate, only why there is nothing to say."""
        return self.passed is None and not self.score and self.detail != ""

    @classmethod
    def of(cls, passed: bool, detail: str = "") -> Verdict:
        """The verdict of a judge that knows only right and wrong."""
        return cls(1.0 if passed else 0.0, passed, detail)

    @classmethod
    def failed(cls, error: BaseException | str) -> Verdict:
        """The verdict of a judge that could not judge: score 0, undecided, with the reason."""
        reason = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        return cls(0.0, None, f"no verdict: {reason}"[:2000])


@runtime_checkable
class Verifier(Protocol):
    """A judge of candidates. Verdicts come back one a candidate, in the order of the candidates.

    One that can judge only a certain form of answer says so in an attribute ``form`` (``"code"``, say); one that needs
    something of the model that it judges, in ``needs``, a set of capabilities; when to ask it, in ``timing``; one that
    can compare only so many candidates together, in ``at_most``; and one that has a model write, how many tokens a
    verdict on one candidate takes at most, in ``verdict_tokens``.
    """

    name: ClassVar[str]

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]: ...


@runtime_checkable
class Spender(Protocol):
    """A judge that spends tokens, calls or money: it is bound to the run whose account they go on."""

    def bind(self, meter: Meter, session: Session | None) -> Verifier:
        """The judge to ask in this run. It charges the meter under the role ``judge``, and may ask the session's model.

        Outside a run there is no session, and a judge that would ask its model gives no verdict.
        What it starts lives no longer than the call of ``judge`` that started it.
        """


def timing_of(judge: Verifier) -> Timing:
    """When the judge is best asked."""
    return Timing(getattr(judge, "timing", Timing.EACH))


def most_of(judge: Verifier | None) -> int | None:
    """How many candidates a judge can judge together at most, None where nothing limits that."""
    return getattr(judge, "at_most", None)


def judge_needs(judge: Verifier | None) -> frozenset[Capability]:
    """What a judge needs of the model whose candidates it judges."""
    return frozenset(getattr(judge, "needs", ()))


def require_seconds(judge: str, seconds: float) -> None:
    """Raise SpecError for a time limit that is none."""
    if not 0 < seconds < math.inf:
        raise SpecError(f"{judge}(seconds=…) must be a positive number of seconds, not {seconds!r}")


async def verdicts_of(judge: Verifier, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
    """The judge's verdicts; where it fails, it costs them and nothing else."""
    try:
        verdicts = await judge.judge(problem, candidates)
        if len(verdicts) != len(candidates):
            raise ValueError(f"{judge.name} gave {len(verdicts)} verdicts on {len(candidates)} candidates")
        return [verdict if isinstance(verdict, Verdict) else _no_verdict(verdict) for verdict in verdicts]
    except Exception as error:  # whatever a judge raises is its verdict, by the rule of this module
        return [Verdict.failed(error)] * len(candidates)


def _no_verdict(given: object) -> Verdict:
    return Verdict.failed(f"the judge gave a {type(given).__name__}, where a Verdict(score) was expected")


class EachVerifier:
    """Base of verifiers that judge every candidate by itself: a subclass says what it makes of one.

    Candidates are judged side by side, at most `parallel` at a time; one that raises gets `Verdict.failed`.
    """

    name: ClassVar[str]
    parallel: ClassVar[int] = 64

    async def verdict(self, problem: str, candidate: Candidate) -> Verdict:
        raise NotImplementedError

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
        permits = asyncio.Semaphore(self.parallel)

        async def one(candidate: Candidate) -> Verdict:
            async with permits:
                try:
                    return await self.verdict(problem, candidate)
                except Exception as error:  # whatever a judge raises is its verdict, by the rule above
                    return Verdict.failed(error)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(candidate)) for candidate in candidates]
        return [task.result() for task in tasks]


class Once:
    """A verifier that puts each distinct candidate to `inner` once, and never raises on its behalf.

    Verdicts are kept for the life of the object: one run of a search. Calls may overlap: a candidate that is being
    judged for one caller is awaited by the next, who takes over if the first is cancelled. To a judge that looks at
    log-probabilities, candidates of one text are distinct where these differ.
    """

    name: ClassVar[str] = "once"

    def __init__(self, inner: Verifier) -> None:
        self.inner = inner
        self._verdicts: dict[Hashable, Verdict] = {}
        self._in_flight: dict[Hashable, asyncio.Future[None]] = {}

    def _key(self, problem: str, candidate: Candidate) -> Hashable:
        if judge_needs(self.inner) & {Capability.LOGPROBS, Capability.TOP_LOGPROBS}:
            return problem, candidate, candidate.logprobs, candidate.top_logprobs
        return problem, candidate

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
        keys = [self._key(problem, candidate) for candidate in candidates]
        distinct = dict(zip(keys, candidates, strict=True))
        while unknown := [key for key in distinct if key not in self._verdicts]:
            if mine := [key for key in unknown if key not in self._in_flight]:
                await self._ask(problem, {key: distinct[key] for key in mine})
            else:
                await asyncio.wait({self._in_flight[key] for key in unknown})
        return [self._verdicts[key] for key in keys]

    async def _ask(self, problem: str, candidates: Mapping[Hashable, Candidate]) -> None:
        keys = list(candidates)
        done = asyncio.get_running_loop().create_future()
        self._in_flight.update(dict.fromkeys(keys, done))
        try:
            verdicts = await verdicts_of(self.inner, problem, list(candidates.values()))
        finally:
            for key in keys:
                del self._in_flight[key]
            done.set_result(None)
        self._verdicts.update(zip(keys, verdicts, strict=True))


def bound(judge: Verifier, meter: Meter, session: Session | None) -> Verifier:
    """The judge on a run's account, asked once about equal candidates; not so one that compares, whose word on a
    candidate holds among those that it was shown with."""
    spending = judge.bind(meter, session) if isinstance(judge, Spender) else judge
    return spending if timing_of(judge) is Timing.TOGETHER else Once(spending)
