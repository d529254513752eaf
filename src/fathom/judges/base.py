"""What a judge is: something that looks at candidate answers to one problem and says how good each of them is.

Verifiers (exact match, unit tests …), reward models and model judges all stand behind `Verifier`, so that a search
never knows which of them it is spending on. Two rules hold for all: identical candidates are judged once, and a judge
that fails costs its verdict, never the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

__all__ = ["Candidate", "EachVerifier", "Once", "Verdict", "Verifier"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One attempt at a problem: `text`, all that the model wrote, and `answer`, what it states as its final answer."""

    text: str
    answer: str | None = None


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

    One that can judge only a certain form of answer says so in an attribute ``form`` (``"code"``, say).
    """

    name: ClassVar[str]

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]: ...


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
    judged for one caller is awaited by the next, who takes over if the first is cancelled.
    """

    name: ClassVar[str] = "once"

    def __init__(self, inner: Verifier) -> None:
        self.inner = inner
        self._verdicts: dict[tuple[str, Candidate], Verdict] = {}
        self._in_flight: dict[tuple[str, Candidate], asyncio.Future[None]] = {}

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
        while unknown := {c for c in candidates if (problem, c) not in self._verdicts}:
            if mine := [c for c in candidates if c in unknown and (problem, c) not in self._in_flight]:
                await self._ask(problem, list(dict.fromkeys(mine)))
            else:
                await asyncio.wait({self._in_flight[problem, c] for c in unknown})
        return [self._verdicts[problem, c] for c in candidates]

    async def _ask(self, problem: str, candidates: list[Candidate]) -> None:
        keys = [(problem, candidate) for candidate in candidates]
        done = asyncio.get_running_loop().create_future()
        self._in_flight.update(dict.fromkeys(keys, done))
        try:
            verdicts = await self.inner.judge(problem, candidates)
            if len(verdicts) != len(candidates):
                raise ValueError(f"{self.inner.name} gave {len(verdicts)} verdicts on {len(candidates)} candidates")
        except Exception as error:  # the rule of this module: a failing judge costs its verdict only
            verdicts = [Verdict.failed(error)] * len(candidates)
        finally:
            for key in keys:
                del self._in_flight[key]
            done.set_result(None)
        self._verdicts.update(zip(keys, verdicts, strict=True))
