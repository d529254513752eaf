"""Beam search over reasoning steps (Snell et al., arXiv 2408.03314): begin with ``width`` first steps, keep the best in
``branching`` of each step, and give each that is kept ``branching`` continuations.

Beams that finish are kept aside and make the live width smaller; steps with the same text count as one. As in the
paper the answer is by default the one with the largest sum of scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fathom.search.base import STRATEGIES, Terms, at_least
from fathom.search.trees import TreeSearch, TreeStrategy, divided
from fathom.specs import option

__all__ = ["Beam", "Branching"]


@dataclass(frozen=True)
class Branching(TreeStrategy):
    """The strategies that keep one line of thought in ``branching``."""

    branching: int = option(4, "continuations of each line of thought that is kept; it must divide the width")

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self._name, 1, branching=self.branching)
        if self.width is not None:
            divided(self._name, self.width, self.branching)

    def agreed(self, terms: Terms) -> int:
        width = super().agreed(terms)
        if self.width is None and terms.width is None and width > self.branching:  # nobody asked for just this width
            width -= width % self.branching
        return divided(self._name, width, self.branching)


@STRATEGIES.register("beam", source="arXiv 2408.03314")
@dataclass(frozen=True)
class Beam(Branching):
    """Grow step by step, keep the best in `branching` of each step, and branch from those."""

    enough: int | None = option(None, "finished beams that suffice (default: the whole width)")

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self._name, 1, enough=self.enough)

    def begin(self, terms: Terms) -> BeamSearch:
        return BeamSearch(self, terms).take(terms.drafts)


class BeamSearch(TreeSearch):
    """The running search. The last one kept gets what the finished beams have left of the width."""

    def __init__(self, said: Beam, terms: Terms) -> None:
        super().__init__(said, terms)
        self.branching = said.branching
        self.enough = said.enough

    def choose(self, level: Sequence[int], ended: Sequence[int]) -> Iterable[tuple[int, int]]:
        if self.enough is not None and sum(id in self.parents for id in self.settled) >= self.enough:
            return
        live = self.width - len(self.settled)
        for id in sorted(self.distinct(level), key=lambda id: -self.scores[id]):
            if live > 0:
                yield id, min(self.branching, live)
            live -= self.branching
