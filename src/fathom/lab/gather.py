"""The strategy that fills a pool: draw the samples that are still missing, each with the seed that is its own.

Sample i of a question is what trajectory i of any search over independent samples would be, so a pool is drawn once and
all those searches can be played on it. Nothing stops early here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fathom.lab.records import GREEDY
from fathom.reasoner import Capability
from fathom.records import Trajectory
from fathom.search.base import Action, Grow, Strategy, Terms
from fathom.search.samples import SampleSearch

__all__ = ["GREEDY_ID", "Gather", "sample_of"]

GREEDY_ID = 1 << 20
"""The id of the greedy trajectory in the run that draws it, beyond those of all samples."""


def sample_of(id: int) -> int:
    """The number of the sample that a trajectory's id stands for."""
    return GREEDY if id == GREEDY_ID else id


@dataclass(frozen=True)
class Gather(Strategy):
    """Draw these samples of a question, ``GREEDY`` for the greedy one, each to at most ``depth`` units."""

    samples: tuple[int, ...]
    depth: int | None = None
    looks_at: frozenset[Capability] = frozenset({Capability.LOGPROBS})

    def __str__(self) -> str:
        return f"gather {len(self.samples)}"

    @property
    def wants(self) -> frozenset[Capability]:
        return self.looks_at

    def begin(self, terms: Terms) -> GatherSearch:
        return GatherSearch(self)


class GatherSearch(SampleSearch):
    """The running collection. ``settled`` lists what is over, in the order in which it came in."""

    def __init__(self, said: Gather) -> None:
        super().__init__(len(said.samples), said.depth)
        self._waiting = sorted(said.samples)

    def ask(self, room: int) -> Sequence[Action]:
        return [*self.backlog.drain(), *self._starts(room)]

    def _starts(self, room: int) -> Iterator[Grow]:
        """Growth for what there is room for: the greedy one, and each run of neighbours, whose seeds are neighbours."""
        now, self._waiting = self._waiting[: max(0, room)], self._waiting[max(0, room) :]
        for greedy, run in itertools.groupby(enumerate(now), key=lambda item: (item[1] == GREEDY, item[1] - item[0])):
            ids = tuple(GREEDY_ID if sample == GREEDY else sample for _, sample in run)
            yield Grow(ids, units=self.depth, greedy=greedy[0])

    def settle(self, trajectory: Trajectory) -> None:
        self.count(trajectory)
