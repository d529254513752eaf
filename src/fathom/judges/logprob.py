"""The scorer ``logprob``: how probable the model found its own words, taken from the tokens that it sampled.

It costs nothing beyond the samples themselves, and is what every engine with log-probabilities can give. It says how
sure the model was, not whether it was right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from fathom.judges.base import Candidate, Verdict
from fathom.judges.confidence import StretchJudge
from fathom.judges.registry import JUDGES
from fathom.reasoner import Capability

__all__ = ["LogProb"]


@JUDGES.register("logprob", source="arXiv 2110.14168; stretches: DeepConf, arXiv 2508.15260")
@dataclass(frozen=True)
class LogProb(StretchJudge):
    """Scores by the probability that the model gave to its own tokens.

    The score is the geometric mean of those probabilities over the stretch that `of` names. DeepConf's token confidence
    looks at the likeliest tokens instead of the sampled one: that is `self-certainty`, with the same stretches.
    """

    name: ClassVar[str] = "logprob"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.LOGPROBS})

    async def verdict(self, problem: str, candidate: Candidate) -> Verdict:
        if not candidate.logprobs:
            return Verdict.failed("the candidate came without log-probabilities")
        return Verdict(min(1.0, math.exp(self.over(candidate.logprobs))))
