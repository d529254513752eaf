"""The verifier ``exact``: whether a candidate's answer means the same as a reference, or is a number close to it."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from fathom.answers import Canonical, canonical, needs_algebra
from fathom.errors import SpecError
from fathom.judges.base import Candidate, EachVerifier, Verdict
from fathom.judges.registry import JUDGES
from fathom.specs import option

__all__ = ["Exact"]


@JUDGES.register("exact")
@dataclass(frozen=True)
class Exact(EachVerifier):
    """Passes the answer that means the same as a reference.

    Sameness is that of `fathom.answers.meaning`; with a `tolerance`, numbers may differ by that share of the reference.
    """

    name: ClassVar[str] = "exact"

    reference: str | int | float = option(help="the right answer", harmless=True)
    tolerance: float = option(0.0, "how far a number may be off, as a share of the reference")

    def __post_init__(self) -> None:
        if not str(self.reference).strip():
            raise SpecError("exact(reference=…) is empty; give the right answer")
        if not 0 <= self.tolerance < math.inf:
            raise SpecError(f"exact(tolerance=…) must be 0 or a positive number, not {self.tolerance!r}")

    async def verdict(self, problem: str, candidate: Candidate) -> Verdict:
        if candidate.answer is None:
            return Verdict.of(False, "no answer stated")
        given, wanted = await _read(candidate.answer), await _read(str(self.reference))
        if given.key == wanted.key:
            return Verdict.of(True, "the same")
        a, b = _value(given.key), _value(wanted.key)
        if self.tolerance and a is not None and b is not None and abs(a - b) <= Fraction(self.tolerance) * abs(b):
            return Verdict.of(True, f"within {self.tolerance:g} of the reference")
        return Verdict.of(False, f"{given.text:.100} is not {wanted.text:.100}")


async def _read(answer: str) -> Canonical:
    return await asyncio.to_thread(canonical, answer) if needs_algebra(answer) else canonical(answer)


def _value(key: str) -> Fraction | None:
    """The number that an answer's key names, from its exact or its 12-digit form."""
    try:
        return Fraction(key[2:]) if key.startswith("n:") else Fraction(key[3:]) if key.startswith("e:~") else None
    except ValueError:
        return None
