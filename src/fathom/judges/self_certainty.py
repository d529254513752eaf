"""The scorer ``self-certainty``: how far the model's distributions were from knowing nothing (Kang et al., arXiv
2502.18581), from as many of the likeliest tokens as the engine tells.

The paper's self-certainty of a token is KL(U‖p), the divergence of the uniform distribution over the whole vocabulary
from the model's. Engines tell the k likeliest only, so what is computed is, exactly, KL(U_k‖p) = −(1/k) Σ log(k·p_j)
over those k with their own probabilities, not renormalised. It is DeepConf's token confidence (arXiv 2508.15260) less
log k, which makes it 0 for k equally likely tokens with nothing beside them and, as Σ p_j ≤ 1, never negative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fathom.judges.base import Candidate, Verdict
from fathom.judges.confidence import StretchJudge
from fathom.judges.registry import JUDGES
from fathom.language.confidence import token_confidence
from fathom.reasoner import Capability

__all__ = ["SelfCertainty", "certainty", "confidences"]


def certainty(top: Sequence[float]) -> float:
    """KL(U_k‖p) of one token, in nats, from the log-probabilities of its k likeliest candidates; at least 0."""
    return max(0.0, token_confidence(top) - math.log(len(top)))


def confidences(tops: Sequence[Sequence[float]]) -> list[float]:
    """DeepConf's confidence of every token of which the likeliest candidates are known."""
    return [token_confidence(top) for top in tops if top]


@JUDGES.register("self-certainty", source="arXiv 2502.18581; stretches: DeepConf, arXiv 2508.15260")
@dataclass(frozen=True)
class SelfCertainty(StretchJudge):
    """Scores by how peaked the model's distributions over next tokens were.

    The certainty x ≥ 0 of the stretch that `of` names becomes the score x / (1 + x), which keeps its order.
    """

    name: ClassVar[str] = "self-certainty"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.TOP_LOGPROBS})

    async def verdict(self, problem: str, candidate: Candidate) -> Verdict:
        series = [certainty(top) for top in candidate.top_logprobs if len(top) > 1]
        if not series:
            return Verdict.failed("the engine did not tell the likeliest tokens")
        x = self.over(series)
        return Verdict(x / (1 + x))
