"""The verifier ``regex``: whether a candidate's answer, or its whole text, has a given form.

The pattern is the caller's, the text a hostile model's, and the standard library cannot stop a pattern that backtracks
without end. The package ``regex`` can: it takes a time limit, and lets other threads run. A sandbox would do too, for a
thousand times the cost.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

from fathom.answers.patterns import too_large
from fathom.errors import SpecError
from fathom.judges.base import Candidate, EachVerifier, Verdict, require_seconds
from fathom.judges.registry import JUDGES
from fathom.specs import option

__all__ = ["Regex"]

_MAX_TEXT = 1_000_000
_THREADS = ThreadPoolExecutor(2, "fathom-regex")
"""Of their own: a search goes on to its time limit when nobody waits for it any more, and must hold up nothing else."""


@JUDGES.register("regex")
@dataclass(frozen=True)
class Regex(EachVerifier):
    """Passes what a regular expression matches.

    The pattern is searched for; anchor it with ^ and $ to match the whole. A search that takes longer than `seconds`
    gives no verdict.
    """

    name: ClassVar[str] = "regex"
    parallel: ClassVar[int] = 4

    pattern: str = option(
        help="a regular expression of the package regex, which has all of Python's and more", harmless=True
    )
    on: Literal["answer", "text"] = option("answer", "match the stated answer, or all that the model wrote")
    ignore_case: bool = option(False, "whether upper and lower case are alike")
    seconds: float = option(0.5, "time limit of one search")

    def __post_init__(self) -> None:
        require_seconds("regex", self.seconds)
        if too_large(self.pattern):
            raise SpecError(f"regex(pattern={self.pattern[:100]!r}) repeats too much: its counts make it too large")
        _ = self._compiled  # a pattern that is none is refused now

    @cached_property
    def _compiled(self) -> Any:
        import regex

        try:
            return regex.compile(self.pattern, regex.IGNORECASE if self.ignore_case else 0)
        except regex.error as error:
            raise SpecError(f"regex(pattern={self.pattern!r}) is not a regular expression: {error}") from None

    async def verdict(self, problem: str, candidate: Candidate) -> Verdict:
        text = candidate.answer if self.on == "answer" else candidate.text
        if text is None:
            return Verdict.of(False, "no answer stated")
        if len(text) > _MAX_TEXT:
            return Verdict.failed(f"the text has {len(text)} characters, more than {_MAX_TEXT}")
        try:
            search = partial(self._compiled.search, text, timeout=self.seconds, concurrent=True)
            found = await asyncio.get_running_loop().run_in_executor(_THREADS, search)
        except TimeoutError:
            return Verdict.failed(f"the search took longer than {self.seconds:g} s")
        return Verdict.of(found is not None, "matches" if found else f"does not match {self.pattern:.100}")
