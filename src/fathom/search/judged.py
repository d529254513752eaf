"""The part that searches share in which every attempt is judged: who scores it, which one is best, how sure that is.

A judge that can say that a solution *is* right (a verifier) ends the search at once. Without a judge the model's own
mean token log-probability scores, as a probability. A judge that fails costs its verdict only, and the notes say so;
where no verdict has come at all, the answers vote.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from fathom.errors import SpecError
from fathom.judges.base import Timing, Verdict, Verifier, timing_of
from fathom.records import StopReason, Trajectory
from fathom.search.base import Standing
from fathom.search.samples import SampleSearch, voted

__all__ = ["JudgedSearch", "own_verdict", "refuse_comparing"]


def refuse_comparing(strategy: str, judge: Verifier | None) -> None:
    """Raise SpecError for a judge that compares: what it says holds only among those that it saw together."""
    if judge is not None and timing_of(judge) is Timing.TOGETHER:
        raise SpecError(
            f"{strategy}(judge=…) needs a judge that scores each attempt by itself; {judge.name} compares several with "
            f"one another, which goes with best-of-n"
        )


def own_verdict(trajectory: Trajectory) -> Verdict:
    """The model's own word: the geometric mean of its tokens' probabilities, 0 where it tells none."""
    logprob = trajectory.mean_logprob
    return Verdict(0.0 if logprob is None else min(1.0, math.exp(logprob)))


class JudgedSearch(SampleSearch):
    """Attempts that are judged when they are over. Until its verdict is in, one stands behind all that have one."""

    def __init__(self, judge: Verifier | None, width: int, depth: int | None) -> None:
        super().__init__(width, depth)
        self.judge = judge
        self.verdicts: dict[int, Verdict] = {}
        self.heard = judge is None  # whether any verdict says something
        self.unjudged: list[str] = []  # why there was no verdict, each reason once

    def settle(self, trajectory: Trajectory) -> None:
        if trajectory.answer is None:
            self.count(trajectory)
        elif self.judge is not None:
            self.backlog.judge.append(trajectory.id)
        else:
            self.tell_verdict(trajectory.id, own_verdict(trajectory))

    def tell_verdict(self, id: int, verdict: Verdict) -> None:
        self.verdicts[id] = verdict
        self.heard = self.heard or not verdict.empty
        self.note(verdict)
        self.count(self.trajectories[id], self.weight(verdict), verdict.score)
        if verdict.passed:
            self.stopped = StopReason.VERIFIED

    def note(self, verdict: Verdict) -> None:
        """Keep the reason of a judge that could not judge."""
        if verdict.passed is None and verdict.detail and verdict.detail not in self.unjudged:
            self.unjudged.append(verdict.detail)

    @property
    def notes(self) -> tuple[str, ...]:
        return (*super().notes, *self.unjudged[:3], *self.why_unheard)

    @property
    def ties(self) -> tuple[str, ...]:
        return super().ties if self.heard else ()

    @property
    def why_unheard(self) -> tuple[str, ...]:
        """A note where there are answers, and nothing is known of them."""
        if self.heard or not self.answered:
            return ()
        return (f"nothing was judged{'' if self.verdicts else ' in time'}, so the answers voted",)

    def weight(self, verdict: Verdict) -> float:
        """What a judged attempt adds to the votes for its answer."""
        return 1.0

    def worth(self, id: int) -> tuple[Any, ...]:
        """How good an attempt is; of equals the earlier one is taken. What the model knows to be wrong stays so."""
        verdict, trajectory = self.verdicts.get(id), self.trajectories[id]
        if verdict is None:
            return False, False, 0.0, trajectory.finished
        right = verdict.passed is not False and trajectory.valid is not False
        return right, True, verdict.score, trajectory.finished

    def finding(self, id: int) -> str:
        """What the judge found about an attempt, for the model to read; nothing where it could not judge."""
        verdict = self.verdicts.get(id)
        return verdict.detail if verdict is not None and (verdict.passed is not None or verdict.score) else ""

    @property
    def answered(self) -> list[int]:
        """The attempts that are over and have an answer, in the order in which they came in."""
        return [id for id in self.settled if self.trajectories[id].answer is not None]

    @property
    def tallied(self) -> Standing:
        """The standing by votes: plain ones where nothing was judged."""
        if self.heard:
            return super().standing
        plain = voted((self.trajectories[id] for id in self.settled), self._likeliest)
        return replace(plain, notes=(*plain.notes, *self.notes))

    @property
    def standing(self) -> Standing:
        answered = self.answered
        if not answered:
            return Standing(notes=self.notes)
        if not self.heard:
            return self.tallied
        best = max(answered, key=self.worth)
        verdict = self.verdicts.get(best)
        return replace(
            self.tallied,
            answer=self.trajectories[best].answer,
            confidence=self.certainty(best),
            best=best,
            valid=verdict.passed if verdict else None,
        )

    def certainty(self, best: int) -> float:
        """1 where a verifier accepted; else the judge's score, held down by how alone the answer stands."""
        verdict = self.verdicts.get(best)
        if verdict is None:
            return self.confidence / 2
        return 1.0 if verdict.passed else verdict.score * self.confidence
