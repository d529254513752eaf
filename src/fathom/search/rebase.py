"""Reward-balanced search (REBASE, arXiv 2408.00724): every open line of thought gets continuations in proportion to the
softmax of its score, so that the search is neither as greedy as a beam nor as blind as sampling.

The paper rounds shares up, best first, until the budget is spent. Here the integers come by largest remainder: they sum
to the budget exactly, and none is further than one from its share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fathom.errors import SpecError
from fathom.search.base import STRATEGIES, Terms
from fathom.search.trees import TreeSearch, TreeStrategy
from fathom.specs import option

__all__ = ["Rebase", "allocate"]


def allocate(total: int, scores: Sequence[float], temperature: float) -> list[int]:
    """``total`` children in proportion to softmax(score / temperature): a count for each score.

    Each gets its share rounded down; what is left goes one by one to the largest remainders, of equals to the earlier.

    >>> allocate(8, [0.9, 0.8, 0.1], 0.1)
    [6, 2, 0]
    """
    top = max(scores)
    weights = [math.exp((score - top) / temperature) for score in scores]
    scale = total / math.fsum(weights)
    shares = [weight * scale for weight in weights]
    counts = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - shares[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


@STRATEGIES.register("rebase", source="arXiv 2408.00724")
@dataclass(frozen=True)
class Rebase(TreeStrategy):
    """Grow step by step, with continuations in proportion to the softmax of the scores."""

    temperature: float = option(0.1, "of the softmax: towards 0 only the best go on, high values share evenly")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.temperature < math.inf:
            raise SpecError(f"rebase(temperature=…) must be positive and finite, not {self.temperature!r}")

    def begin(self, terms: Terms) -> RebaseSearch:
        return RebaseSearch(self, terms).take(terms.drafts)


class RebaseSearch(TreeSearch):
    """The running search. Finished lines of thought make the budget of continuations smaller."""

    def __init__(self, said: Rebase, terms: Terms) -> None:
        super().__init__(said, terms)
        self.temperature = said.temperature

    def choose(self, level: Sequence[int], ended: Sequence[int]) -> Iterable[tuple[int, int]]:
        live = self.width - len(self.settled)
        ids = self.distinct(level)
        if live <= 0:
            return ()
        return zip(ids, allocate(live, [self.scores[id] for id in ids], self.temperature), strict=True)
