"""The scorer ``prm``: a process reward model, which says of every step of a solution how likely it is right so far
(Lightman et al., "Let's Verify Step by Step", arXiv 2305.20050), behind a server or in process.

Steps are split at blank lines, and hold no control tokens, by which a candidate could leave its place in the chat that
the model is shown. How the scores of the steps become one is said, never guessed: `min` and `last` are
what Snell et al. (arXiv 2408.03314) compare, `product` is Lightman's, and models are trained for one of them.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from fathom.budget import Meter
from fathom.errors import SpecError, one_of
from fathom.judges.base import Candidate, EachVerifier, Timing, Verdict, Verifier
from fathom.judges.prm_formats import LOCAL_FORMATS, SERVER_FORMATS
from fathom.judges.prm_server import ServerScorer, StepScorer
from fathom.judges.quoting import defused, hollow
from fathom.judges.registry import JUDGES
from fathom.reasoner import Session
from fathom.specs import option

__all__ = ["PRM", "aggregate", "steps_of"]

Aggregate = Literal["min", "product", "last", "mean"]
_BLANK = re.compile(r"\n[ \t]*\n\s*")


def steps_of(text: str) -> list[str]:
    """The steps of a solution: what stands between blank lines."""
    return [step for part in _BLANK.split(text) if (step := part.strip())]


def aggregate(scores: Sequence[float], how: Aggregate) -> float:
    """One score from those of the steps, of which there must be at least one; all in [0, 1]."""
    match how:
        case "min":
            return min(scores)
        case "product":
            return math.prod(scores)
        case "last":
            return scores[-1]
        case "mean":
            return min(1.0, math.fsum(scores) / len(scores))


@JUDGES.register("prm", source="arXiv 2305.20050; formats: arXiv 2501.07301, 2312.08935")
@dataclass(frozen=True)
class PRM(EachVerifier):
    """Scores the steps of a solution by a process reward model.

    With `server`, the model is asked there, in that server's `format`; an API key comes from ``PRM_API_KEY``. Without
    it, `model` is a directory with a model in the format of transformers, run in process. A server's format that scores
    one text at a time is asked for the text up to the end of every step, and with ``aggregate=last`` for the whole
    alone.
    """

    name: ClassVar[str] = "prm"
    timing: ClassVar[Timing] = Timing.DIFFERING

    model: str = option(help="the model's name on the server, or its directory here")
    format: str = option(help="how it is asked: " + ", ".join((*SERVER_FORMATS, *LOCAL_FORMATS)))
    server: str = option("", "the server's base URL, e.g. http://localhost:8000")
    aggregate: Aggregate = option("min", "how the steps' scores become one")

    def __post_init__(self) -> None:
        known = SERVER_FORMATS if self.server else LOCAL_FORMATS
        if self.format not in known:
            where = "with a server" if self.server else "in process, without a server,"
            raise SpecError(f"prm(format=…) {where}: " + one_of("format", self.format, known))
        if not self.model:
            raise SpecError("prm(model=…) is empty")
        if self.server:
            self.bind(Meter(), None)  # a URL that does not parse is refused here

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
        """Judge outside any run; nothing limits what that spends."""
        return await self.bind(Meter(), None).judge(problem, candidates)

    def bind(self, meter: Meter, session: Session | None) -> Verifier:
        if self.server:
            from fathom.judges.serving import JudgeServer

            form = SERVER_FORMATS[self.format](self.model, last_only=self.aggregate == "last")
            return _Scoring(self, ServerScorer(JudgeServer(self.server, meter, os.environ.get("PRM_API_KEY")), form))
        from fathom.judges.prm_local import LocalScorer

        return _Scoring(self, LocalScorer(self.model, self.format, meter))


class _Scoring(EachVerifier):
    """A process reward model at work, for one run."""

    name: ClassVar[str] = "prm"

    def __init__(self, said: PRM, scorer: StepScorer) -> None:
        self.said = said
        self.scorer = scorer

    async def verdict(self, problem: str, candidate: Candidate) -> Verdict:
        if (why := hollow(candidate)) is not None:
            return Verdict.of(False, why)
        scores = await self.scorer.scores(defused(problem), steps_of(defused(candidate.text)))
        return Verdict(aggregate(scores, self.said.aggregate))
