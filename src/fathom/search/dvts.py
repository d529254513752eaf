"""Diverse verifier tree search (Hugging Face, search-and-learn, 2024): ``width / branching`` trees side by side, in
each of which the best of ``branching`` continuations is kept. A line that a judge overrates cannot crowd out others.

A tree ends with its best child's end. A child that ended without being the best is a candidate all the same, since it
is paid for; the original forgets it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fathom.search.base import STRATEGIES, Terms
from fathom.search.beam import Branching
from fathom.search.trees import TreeSearch

__all__ = ["DiverseTrees"]


@STRATEGIES.register("dvts", source="search-and-learn (Hugging Face, 2024)")
@dataclass(frozen=True)
class DiverseTrees(Branching):
    """Grow `width / branching` independent trees, keeping the best child in each."""

    @property
    def _name(self) -> str:
        return "dvts"

    def begin(self, terms: Terms) -> DiverseTreesSearch:
        return DiverseTreesSearch(self, terms).take(terms.drafts)


class DiverseTreesSearch(TreeSearch):
    """The running search. The first steps are dealt to the trees in the order of their ids."""

    def __init__(self, said: DiverseTrees, terms: Terms) -> None:
        super().__init__(said, terms)
        self.branching = said.branching
        self.trees: dict[int, int] = {}

    def choose(self, level: Sequence[int], ended: Sequence[int]) -> Iterable[tuple[int, int]]:
        best: dict[int, int] = {}
        for place, id in enumerate(sorted([*level, *ended])):
            parent = self.parents[id]
            tree = self.trees[id] = place // self.branching if parent is None else self.trees[parent]
            if tree not in best or self.scores[id] > self.scores[best[tree]]:
                best[tree] = id
        return [(id, self.branching) for id in best.values() if id in set(level)]
