"""Composition: one search, then another on what it found. ``vote(width=8) | refine(judge=tests)``.

The second search gets the answers of the first as drafts, and goes on with its trajectories and their numbers. An
answer that was verified ends the whole; a search that has decided, converged, or come to its end hands over. Budgets
hold for both together, the limit on width too: where the first has used it up, there is no second. The steps of a tree
count as what they continue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from fathom.budget import Meter
from fathom.errors import SpecError
from fathom.judges.base import Verdict, Verifier
from fathom.reasoner import Capability, Session
from fathom.records import StopReason, Trajectory
from fathom.search.base import Action, Conclude, Drop, Grow, Judge, Lost, Search, Strategy, Terms
from fathom.search.staged import StagedSearch

__all__ = ["Then"]


@dataclass(frozen=True)
class Then(Strategy):
    """``first | after``: the second search builds on what the first one found."""

    first: Strategy
    after: Strategy

    def __post_init__(self) -> None:
        if getattr(self.first, "models", ()) and getattr(self.after, "models", ()):
            raise SpecError(f"{self}: only one part of a pipeline can name further models")

    def __str__(self) -> str:
        return f"{self.first} | {self.after}"

    @property
    def parts(self) -> tuple[Strategy, ...]:
        """The single searches, in their order."""
        nested = (part.parts if isinstance(part, Then) else (part,) for part in (self.first, self.after))
        return tuple(part for parts in nested for part in parts)

    @property
    def required(self) -> frozenset[Capability]:
        return self.first.required | self.after.required

    @property
    def wants(self) -> frozenset[Capability]:
        return self.first.wants | self.after.wants

    @property
    def judge(self) -> Verifier | None:
        """The judge of the first part that has one: what it says of the form of answers holds for the whole."""
        judges = (getattr(part, "judge", None) for part in (self.first, self.after))
        return next((judge for judge in judges if judge is not None), None)

    @property
    def models(self) -> tuple[str, ...]:
        """The further models that either part names."""
        return (*getattr(self.first, "models", ()), *getattr(self.after, "models", ()))

    def judged_by(self, judge: Verifier) -> Strategy:
        """Every part that asks a judge gets this one. Raises SpecError where none does."""
        first, after = (
            part.judged_by(judge) if isinstance(part, Then) or "judge" in {f.name for f in fields(part)} else part
            for part in (self.first, self.after)
        )
        if (first, after) == (self.first, self.after) and self.judge is None:
            raise SpecError(f"no part of {self} asks a judge; a verifier goes with best-of-n or refine")
        return Then(first, after)

    def judged_by_default(self, judge: Verifier) -> Strategy:
        return Then(self.first.judged_by_default(judge), self.after.judged_by_default(judge))

    def scout(self, session: Session, meter: Meter) -> list[Any]:
        return [part.scout(session, meter) for part in self.parts]

    def review(self, search: Search) -> None:
        if isinstance(search, ThenSearch):
            for part, stage in zip(self.parts, search.stages, strict=False):
                part.review(stage)

    def begin(self, terms: Terms) -> ThenSearch:
        for part in self.parts[1:]:
            part.begin(terms)  # what cannot be begun is refused before anything is spent
        return ThenSearch(self.parts, terms)


class ThenSearch(StagedSearch[Search]):
    """The running pipeline. What a search still has out when it hands over is cut, and counts no more."""

    apart: ClassVar[tuple[str, ...]] = (*StagedSearch.apart, "parts", "_found")

    def __init__(self, parts: Sequence[Strategy], terms: Terms) -> None:
        super().__init__(parts[0].begin(terms))
        self.parts = tuple(parts)
        self.terms = terms
        self._growing: set[int] = set()
        self._judging: set[int] = set()
        self._cut: set[int] = set()  # still on their way back, for nobody
        self._unheard: set[int] = set()  # verdicts on their way, for nobody
        self._returned: list[int] = []
        self._lines: set[int] = set()  # of thought that were begun: what continues none
        self._handed: list[tuple[int | None, tuple[int, ...]]] = []  # to each part after the first: width, and drafts
        self._found: list[Any] = []  # what its parts have scouted
        self._spending: tuple[Mapping[str, float], float] | None = None

    def stage(self, nth: int) -> Search:
        if nth == 0:
            return self.parts[0].begin(self.terms)
        width, ids = self._handed[nth - 1]
        drafts = tuple(self.trajectories[id] for id in ids)
        return self.parts[nth].begin(replace(self.terms, width=width, drafts=drafts))

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        self.brief(self._found)

    @property
    def minds_spending(self) -> bool:
        return any(found is not None for found in self._found) or self.now.minds_spending

    def brief(self, found: Any) -> None:
        self._found = list(found or ())
        for stage, its in zip(self.stages, self._found, strict=False):
            stage.brief(its)

    def tell_spending(self, left: Mapping[str, float], seconds: float) -> None:
        self._spending = left, seconds
        if self.now.minds_spending:
            self.now.tell_spending(left, seconds)

    @property
    def ran(self) -> str:
        """What its parts came to run, where that was only decided on the way."""
        told = [stage.ran or str(part) for part, stage in zip(self.parts, self.stages, strict=False)]
        return " | ".join(told) if any(stage.ran for stage in self.stages) else ""

    @property
    def judge(self) -> Verifier | None:  # type: ignore[override]
        return self.now.judge

    @property
    def _last(self) -> bool:
        return len(self.stages) == len(self.parts)

    def ask(self, room: int) -> Sequence[Action]:
        if self.stopped is not None:
            return ()
        actions = self._asked(room)
        while self._hands_over(idle=room > 0 and not actions):
            actions = [*self._hand_over(), *(self._asked(room) if self.stopped is None else ())]
        returned, self._returned = tuple(self._returned), []
        return [Drop(returned), *actions] if returned else actions

    def _asked(self, room: int) -> list[Action]:
        actions = list(self.now.ask(room))
        for action in actions:
            match action:
                case Grow(ids, parent):
                    self._growing.update(ids)
                    self._lines.update(ids if parent is None else ())
                case Conclude(ids):
                    self._growing.update(ids)
                case Judge(ids):
                    self._judging.update(ids)
        self._heed()
        return actions

    def _hands_over(self, idle: bool) -> bool:
        if self._last or self.winding_down or self.stopped is not None:
            return False
        return self.now.stopped is not None or (idle and not (self._growing or self._judging))

    def _hand_over(self) -> list[Action]:
        """Begin the next search on what this one has found, and cut what it still has out."""
        before = self.now
        left = None if self.terms.width is None else self.terms.width - len(self._lines)
        if left is not None and left < 1:
            self.stopped = before.stopped or StopReason.EXHAUSTED
            return []
        self._handed.append((left, self._drafts(before.standing.best)))
        self.go_on(self.stage(len(self.stages)))
        if self._found:
            self.now.brief(self._found[len(self.stages) - 1])
        if self._spending is not None and self.now.minds_spending:
            self.now.tell_spending(*self._spending)
        cut, self._growing = self._growing, set()
        self._cut |= cut
        self._unheard, self._judging = self._unheard | self._judging, set()
        self._heed()
        return [Drop(tuple(sorted(cut)))] if cut else []

    def _drafts(self, best: int | None) -> tuple[int, ...]:
        """All that have an answer, the best one first, those that came to their own end before the others."""
        answered = (t for t in self.trajectories.values() if t.answer is not None)
        return tuple(t.id for t in sorted(answered, key=lambda t: (t.id != best, not t.finished, t.id)))

    def _heed(self) -> None:
        """What ends the search that runs now may end the whole."""
        if self._last or self.now.stopped is StopReason.VERIFIED:
            self.stopped = self.now.stopped

    def tell(self, trajectory: Trajectory) -> None:
        if trajectory.id in self._cut:
            self._cut.discard(trajectory.id)
            self.trajectories[trajectory.id] = trajectory
            self._returned.append(trajectory.id)
            return
        self._growing.discard(trajectory.id)
        self.now.tell(trajectory)
        self._heed()

    def tell_verdict(self, id: int, verdict: Verdict) -> None:
        if id in self._unheard:
            self._unheard.discard(id)
            return
        self._judging.discard(id)
        self.now.tell_verdict(id, verdict)
        self._heed()

    def tell_lost(self, lost: Lost) -> None:
        super().tell_lost(lost)
        if not lost.error:  # they were not begun
            self._lines.difference_update(lost.ids)
        own = tuple(id for id in lost.ids if id not in self._cut)
        self._cut.difference_update(lost.ids)
        self._growing.difference_update(own)
        if own:
            self.now.tell_lost(replace(lost, ids=own))
            self._heed()

    @property
    def at_rest(self) -> int:
        return self.now.at_rest
