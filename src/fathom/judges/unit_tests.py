"""The verifier ``tests``: runs a candidate's code in the sandbox against test cases, and counts those passed."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from fathom.errors import SpecError
from fathom.judges.base import Candidate, EachVerifier, Verdict, require_seconds
from fathom.judges.docstring_examples import entry_point, examples_in, program
from fathom.judges.registry import JUDGES
from fathom.judges.sandbox import Sandbox, SandboxLimits, SandboxResult
from fathom.specs import option

__all__ = ["UnitTests", "run_cases"]

_EXAMINER = Path(__file__).with_name("_examiner.py")


@JUDGES.register("tests", source="Chen et al., arXiv 2107.03374 (HumanEval)")
@dataclass(frozen=True)
class UnitTests(EachVerifier):
    """Runs code against the examples in the question, or against tests of your own, in a sandbox.

    The score is the share of cases that pass; `passed` is whether all do. Without any case there is no verdict. The
    candidate runs in a process apart from its tests, which see plain data only: numbers, texts and collections of them.
    They see what it defines by name, but nothing that is named like a builtin unless the question asks for it.
    """

    name: ClassVar[str] = "tests"
    form: ClassVar[str] = "code"
    parallel: ClassVar[int] = os.cpu_count() or 1

    code: str = option("", "Python code that asserts; by default the examples in the question's docstring")
    seconds: float = option(5.0, "wall time that a candidate's tests may take together")
    memory_mb: int = option(512, "memory of the candidate's process, in MiB")

    def __post_init__(self) -> None:
        require_seconds("tests", self.seconds)
        if self.memory_mb < 64:
            raise SpecError(f"tests(memory_mb=…) must be at least 64, not {self.memory_mb!r}")
        try:
            compile(self.code, "tests", "exec")
        except (SyntaxError, ValueError) as error:
            raise SpecError(f"tests(code=…) is not valid Python: {error}") from None

    async def verdict(self, problem: str, candidate: Candidate) -> Verdict:
        cases = [self.code] if self.code else [example.case for example in examples_in(problem)]
        if not cases:
            return Verdict.failed("the question has no examples to test with; give tests(code=…)")
        source = program(problem, candidate.answer or candidate.text)
        return await run_cases(source, cases, self.limits, asked=entry_point(problem))

    @property
    def limits(self) -> SandboxLimits:
        return SandboxLimits(
            seconds=self.seconds, cpu_seconds=max(1, round(self.seconds + 0.5)), memory=self.memory_mb * 2**20
        )


async def run_cases(source: str, cases: list[str], limits: SandboxLimits, asked: str | None = None) -> Verdict:
    """The verdict of test cases, each a Python source that fails by raising, on a program's source.

    They see what the program defines, but for names of builtins, unless it is the function that was ``asked`` for.
    """
    examiner = _EXAMINER.read_text("utf-8")
    job = json.dumps(cases).encode()
    result = await Sandbox(limits).run(f"{examiner}\n\nmain({source!r}, {asked!r})\n", stdin=job)
    outcomes = _outcomes(result, len(cases))
    right = sum(passed for passed, _ in outcomes)
    reasons = [reason for passed, reason in outcomes if not passed]
    missing = len(cases) - len(outcomes)
    if missing:
        reasons.append(
            {"timeout": "out of time", "memory": "out of memory"}.get(result.status, "the program broke off")
        )
    detail = f"{right} of {len(cases)} passed" + (f"; {reasons[0]}" if reasons else "")
    return Verdict(right / len(cases), right == len(cases), detail)


def _outcomes(result: SandboxResult, count: int) -> list[tuple[bool, str]]:
    outcomes = []
    for line in result.stdout.splitlines()[:count]:
        try:
            passed, reason = json.loads(line)
        except ValueError:
            break
        outcomes.append((passed is True, str(reason)))
    return outcomes
