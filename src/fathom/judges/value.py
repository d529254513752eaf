"""The judge ``value``: the model's own word on an attempt, from the value head of a recursive model (GRAM's latent
process reward model, arXiv 2605.19376), which costs nothing beyond the attempt itself.

Where the reasoner knows for certain whether an answer is right, because a puzzle's constraints say so, that counts
instead. It is what searches ask a model with a value head when they are given no other judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fathom.judges.base import Candidate, EachVerifier, Verdict
from fathom.judges.registry import JUDGES
from fathom.reasoner import Capability

__all__ = ["Value"]


@JUDGES.register("value", source="arXiv 2605.19376")
@dataclass(frozen=True)
class Value(EachVerifier):
    """Scores by the model's own estimate of being right, finished or not; what it knows to be right passes."""

    name: ClassVar[str] = "value"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.VALUE})

    async def verdict(self, problem: str, candidate: Candidate) -> Verdict:
        if candidate.valid is not None:
            return Verdict.of(candidate.valid, "" if candidate.valid else "it breaks a constraint of the puzzle")
        if candidate.value is None:
            return Verdict.failed("the candidate came without a value")
        return Verdict(candidate.value)
