"""First-Finish (arXiv 2505.18149): start several lines of thought, take the one that comes to its end first, and cancel
the others. Short chains of thought are right more often than long ones, and nobody waits for the longest."""

from __future__ import annotations

from dataclasses import dataclass

from fathom.errors import SpecError
from fathom.records import StopReason, Trajectory
from fathom.search.base import STRATEGIES, Strategy, Terms, at_least
from fathom.search.samples import SampleSearch, agreed_width
from fathom.specs import option

__all__ = ["First"]


@STRATEGIES.register("first", source="arXiv 2505.18149")
@dataclass(frozen=True)
class First(Strategy):
    """The first of several lines of thought to finish decides: the low-latency mode; the others are cancelled.

    It starts afresh: it has no use for drafts.
    """

    width: int | None = option(None, "lines of thought to start (default: the budget's width, else 4)")
    of: int = option(1, "how many must have finished; they vote")
    depth: int | None = option(None, "units of reasoning for each at most; 0 answers at once")

    def __post_init__(self) -> None:
        at_least("first", 1, of=self.of)
        if self.width is not None and self.of > self.width:
            raise SpecError(f"first(of={self.of}) cannot be reached with a width of {self.width}")

    def begin(self, terms: Terms) -> FirstSearch:
        depth = self.depth if self.depth is not None else terms.depth
        return FirstSearch(agreed_width(self.width, terms, default=max(4, self.of)), depth, self.of)


class FirstSearch(SampleSearch):
    """The running search. What comes in after the decision is not counted; all that were cut together weigh less than
    one that finished. One that is known to be wrong decides nothing."""

    def __init__(self, width: int, depth: int | None, of: int) -> None:
        super().__init__(width, depth)
        self.of = of
        self.finished = 0

    def settle(self, trajectory: Trajectory) -> None:
        if self.stopped is not None:
            return
        self.count(trajectory, 1.0 if trajectory.finished else 1.0 / (self.width + 1))
        self.finished += trajectory.finished and trajectory.answer is not None and trajectory.valid is not False
        if self.finished >= self.of:
            self.stopped = StopReason.DECIDED
