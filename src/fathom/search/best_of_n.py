"""Best-of-n (arXiv 2110.14168): sample n solutions, have each judged, and return the best.

Without a judge the model's own mean token log-probability scores. ``weighted`` sums the scores of the trajectories that
reached the same answer and returns the answer with the largest sum (weighted best-of-n, arXiv 2206.02336). A judge that
can say that a solution *is* right (a verifier) ends the search at once; one that says a solution is wrong bars it while
there is any other."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fathom.judges.base import Verdict, Verifier
from fathom.judges.registry import judge_option
from fathom.reasoner import Capability
from fathom.records import StopReason, Trajectory
from fathom.search.base import STRATEGIES, Standing, Strategy, Terms
from fathom.search.samples import SampleSearch, agreed_width
from fathom.specs import option

__all__ = ["BestOfN"]


@STRATEGIES.register("best-of-n", source="arXiv 2110.14168, 2206.02336")
@dataclass(frozen=True)
class BestOfN(Strategy):
    """Sample solutions, judge each, return the best; a verifier that accepts one ends the search."""

    width: int | None = option(None, "samples at most (default: the budget's width, else 16)")
    judge: Verifier | None = judge_option(None, "who scores them (default: their mean token log-probability)")
    weighted: bool = option(False, "sum the scores of equal answers instead of taking the best single one")
    depth: int | None = option(None, "units of reasoning for each at most; 0 answers at once")
    at_least: int = option(0, "units of reasoning for each at least (budget forcing)")

    @property
    def required(self) -> frozenset[Capability]:
        return self.needs if self.judge is not None else frozenset({Capability.LOGPROBS})

    def begin(self, terms: Terms) -> BestOfNSearch:
        depth = self.depth if self.depth is not None else terms.depth
        return BestOfNSearch(self, agreed_width(self.width, terms), depth)


class BestOfNSearch(SampleSearch):
    """The running search. Until its verdict is in, a candidate stands behind all that have one."""

    def __init__(self, said: BestOfN, width: int, depth: int | None) -> None:
        super().__init__(width, depth, said.at_least)
        self.said = said
        self.judge = said.judge
        self.verdicts: dict[int, Verdict] = {}

    def settle(self, trajectory: Trajectory) -> None:
        if trajectory.answer is None:
            self.count(trajectory)
        elif self.judge is not None:
            self.backlog.judge.append(trajectory.id)
        else:
            logprob = trajectory.mean_logprob
            self.tell_verdict(trajectory.id, Verdict(0.0 if logprob is None else math.exp(logprob)))

    def tell_verdict(self, id: int, verdict: Verdict) -> None:
        self.verdicts[id] = verdict
        self.count(self.trajectories[id], verdict.score if self.said.weighted else 1.0, verdict.score)
        if verdict.passed is None and verdict.detail and verdict.detail not in self.errors:
            self.errors.append(verdict.detail)
        if verdict.passed:
            self.stopped = StopReason.VERIFIED

    def _worth(self, id: int) -> tuple[bool, bool, float, bool]:
        """How good a trajectory is; of equals the earlier one is taken."""
        verdict = self.verdicts.get(id)
        if verdict is None:
            return False, False, 0.0, self.trajectories[id].finished
        return verdict.passed is not False, True, verdict.score, self.trajectories[id].finished

    @property
    def standing(self) -> Standing:
        answered = [id for id in self.settled if self.trajectories[id].answer is not None]
        if not answered:
            return Standing(notes=self.notes)
        tallied = super().standing
        if self.said.weighted and tallied.answer is not None and not any(v.passed for v in self.verdicts.values()):
            return tallied
        best = max(answered, key=self._worth)
        verdict = self.verdicts.get(best)
        return replace(
            tallied,
            answer=self.trajectories[best].answer,
            confidence=self._confidence(best),
            best=best,
            valid=verdict.passed if verdict else None,
        )

    def _confidence(self, best: int) -> float:
        """1 where a verifier accepted; else the judge's score, held down by how alone the answer stands."""
        verdict = self.verdicts.get(best)
        if verdict is None:
            return self.confidence / 2
        return 1.0 if verdict.passed else verdict.score * self.confidence
