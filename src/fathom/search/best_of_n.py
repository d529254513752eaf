"""Best-of-n (arXiv 2110.14168): sample n solutions, have each judged, and return the best.

Without a judge the model's own mean token log-probability scores. ``weighted`` sums the scores of the trajectories that
reached the same answer and returns the answer with the largest sum (weighted best-of-n, arXiv 2206.02336). A judge that
can say that a solution *is* right (a verifier) ends the search at once; one that says a solution is wrong bars it while
there is any other.

``wave`` has so many attempts under way at a time, a verifier's word on each included: after one that it accepts nothing
was begun in vain, for which the search takes longer.

Candidates that all gave the same answer need no ranking: a judge that only grades is not asked before two of them
differ, and one that compares not before all are in. A verifier is asked as they come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fathom.errors import LimitError
from fathom.judges.base import Timing, Verdict, Verifier, most_of, timing_of
from fathom.judges.registry import judge_option
from fathom.judges.votes import Tally
from fathom.reasoner import Capability
from fathom.records import Trajectory
from fathom.search.base import STRATEGIES, Action, Grow, Judge, Lost, Standing, Strategy, Terms, at_least
from fathom.search.judged import JudgedSearch
from fathom.search.samples import agreed_width
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
    wave: int | None = option(None, "samples to run at a time (default: what the model runs well together)")
    greedy: bool = option(False, "begin with the likeliest line of thought, and draw only the others")

    def __post_init__(self) -> None:
        at_least("best-of-n", 1, wave=self.wave)

    @property
    def required(self) -> frozenset[Capability]:
        return super().required if self.judge is not None else frozenset({Capability.LOGPROBS})

    def begin(self, terms: Terms) -> BestOfNSearch:
        depth = self.depth if self.depth is not None else terms.depth
        width, most = agreed_width(self.width, terms), most_of(self.judge)
        if most is not None and width > most:
            if self.judge is not None and self.width is not None:
                said = f"{self.judge.name} compares at most {most} answers, fewer than a width of {width}"
                raise LimitError("width", said)
            width = most
        return BestOfNSearch(self, width, depth).take(terms.drafts)


class BestOfNSearch(JudgedSearch):
    """The running search: judged attempts, each judged when it makes sense to."""

    def __init__(self, said: BestOfN, width: int, depth: int | None) -> None:
        super().__init__(said.judge, width, depth)
        self.at_least, self.greedy, self.wave = said.at_least, said.greedy, said.wave
        self.said = said
        self.timing = timing_of(said.judge) if said.judge is not None else Timing.EACH
        self._held: list[int] = []  # counted as mere votes until their judge is asked
        self._held_keys: set[str] = set()
        self._differed = False
        self._out: set[int] = set()

    def ask(self, room: int) -> Sequence[Action]:
        actions = list(super().ask(room))
        for action in actions:
            if isinstance(action, Grow):
                self._out.update(action.ids)
        if self.timing is Timing.TOGETHER and not self._out and self._differ:
            self.width = self.started  # what is compared once is not joined by others
            actions.append(Judge(self._release()[: most_of(self.judge)]))  # drafts, which may be many, best first
        return actions

    def tell_lost(self, lost: Lost) -> None:
        super().tell_lost(lost)
        self._out.difference_update(lost.ids)

    def settle(self, trajectory: Trajectory) -> None:
        self._out.discard(trajectory.id)
        if trajectory.answer is None or self.judge is None or self.timing is Timing.EACH or self._differed:
            super().settle(trajectory)
        else:
            self.count(trajectory)
            self._held.append(trajectory.id)
            self._held_keys.add(trajectory.key)
            if self.timing is Timing.DIFFERING and self._differ:
                self.backlog.judge.extend(self._release())

    @property
    def busy(self) -> int:
        """With those of which a verifier has still to say whether they end the search."""
        return self.out + (len(self.answered) - len(self.verdicts)) * (self.timing is Timing.EACH)

    @property
    def _differ(self) -> bool:
        """Whether those that are held back gave different answers."""
        return len(self._held_keys) > 1

    def _release(self) -> tuple[int, ...]:
        """Those held back, which from now on count with their verdicts. Besides them only blanks were counted."""
        held, self._held, self._held_keys = tuple(self._held), [], set()
        self._differed = True
        self.tally = Tally()
        for id in self.settled:
            if self.trajectories[id].answer is None:
                self.count(self.trajectories[id])
        return held

    def weight(self, verdict: Verdict) -> float:
        return verdict.score if self.said.weighted else 1.0

    @property
    def why_unheard(self) -> tuple[str, ...]:
        if self._held and not self._differ:
            return ("all candidates agree, so their judge was not asked",)
        return super().why_unheard

    @property
    def standing(self) -> Standing:
        tallied = self.tallied
        summed = self.said.weighted and tallied.answer is not None
        return tallied if summed and not any(v.passed for v in self.verdicts.values()) else super().standing
