"""Self-consistency (arXiv 2203.11171): sample many chains of thought and let their answers vote, and stop as soon as
more samples would hardly change the outcome (Adaptive-Consistency, arXiv 2305.11860)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fathom.errors import SpecError
from fathom.judges import stopping
from fathom.records import StopReason, Trajectory
from fathom.search.base import STRATEGIES, Action, Strategy, Terms
from fathom.search.samples import SampleSearch, agreed_width
from fathom.specs import option

__all__ = ["Vote"]

Rule = Literal["outcome", "beta", "dirichlet", "certain", "never"]

_SURE: Mapping[str, Callable[[Sequence[int], int], float]] = {
    "outcome": lambda counts, remaining: 1.0 - stopping.chance_of_losing(counts, remaining),
    "beta": lambda counts, remaining: stopping.beats_runner_up(counts),
    "dirichlet": lambda counts, remaining: stopping.is_mode(counts),
    "certain": lambda counts, remaining: float(stopping.cannot_change(counts, remaining)),
}


@STRATEGIES.register("vote", source="arXiv 2203.11171, 2305.11860")
@dataclass(frozen=True)
class Vote(Strategy):
    """Sample chains of thought and let their answers vote, stopping when the outcome is settled."""

    width: int | None = option(None, "samples at most (default: the budget's width, else 16)")
    depth: int | None = option(None, "units of reasoning for each at most; 0 answers at once")
    at_least: int = option(0, "units of reasoning for each at least (budget forcing)")
    wave: int | None = option(None, "samples to run at a time (default: what the model runs well together)")
    stop: Rule = option(
        "outcome",
        "when to stop early: outcome (the remaining samples are unlikely to change the leader), beta, dirichlet (the "
        "leader is likely the true mode, against the runner-up or against all), certain, never",
    )
    sure: float = option(0.95, "how sure the rule must be")

    def __post_init__(self) -> None:
        if not 0.5 <= self.sure <= 1:
            raise SpecError(f"vote(sure=…) must lie between 0.5 and 1, not {self.sure!r}")
        if self.wave is not None and self.wave < 1:
            raise SpecError(f"vote(wave=…) must be at least 1, not {self.wave!r}")

    def begin(self, terms: Terms) -> VoteSearch:
        depth = self.depth if self.depth is not None else terms.depth
        return VoteSearch(self, agreed_width(self.width, terms), depth).take(terms.drafts)


class VoteSearch(SampleSearch):
    """The running vote."""

    def __init__(self, said: Vote, width: int, depth: int | None) -> None:
        super().__init__(width, depth, said.at_least, greedy=width == 1)
        self.said = said

    def ask(self, room: int) -> Sequence[Action]:
        if self.said.wave is not None:
            room = min(room, self.said.wave - (self.started - len(self.settled)))
        return super().ask(room)

    def settle(self, trajectory: Trajectory) -> None:
        self.count(trajectory)
        if self.said.stop == "never" or self.remaining == 0 or self.winding_down:
            return
        counts = self.tally.counts
        if counts and _SURE[self.said.stop](counts, self.remaining) >= self.said.sure:
            self.stopped = StopReason.DECIDED
