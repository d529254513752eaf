"""The part that all searches over independent samples share: start n trajectories, conclude each, weigh the answers.

``direct``, ``vote`` and ``best-of-n`` differ only in how many they start, in what a finished one is worth, and in when
they have seen enough. Answers are counted by their meaning (``Trajectory.key``), each trajectory once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Self

from fathom.errors import LimitError
from fathom.judges.votes import Tally
from fathom.records import Candidate, StopReason, Trajectory
from fathom.search.base import Action, Backlog, Grow, Lost, Search, Standing, Terms

__all__ = ["SampleSearch", "agreed_width", "voted"]

DEFAULT_WIDTH = 16


def agreed_width(asked: int | None, terms: Terms, default: int = DEFAULT_WIDTH) -> int:
    """The width to run: the strategy's, within the budget's. Raises LimitError where the model cannot run it."""
    if asked is not None and asked < 1:
        raise LimitError("width", f"width must be a whole number of at least 1, not {asked!r}")
    width = asked if asked is not None else (terms.width or min(default, terms.max_width or default))
    if terms.max_width is not None and width > terms.max_width:
        raise LimitError("width", f"a width of {width} is more than the {terms.max_width} that this model can run")
    return min(width, terms.width or width)


class SampleSearch(Search):
    """Starts up to ``width`` trajectories, as there is room, and concludes those that state no answer themselves.

    With ``greedy`` the first of them is the likeliest one, whose answer wins ties, and only the others are drawn.
    ``wave`` are under way at a time (None: as many as there is room for).
    """

    def __init__(
        self, width: int, depth: int | None, at_least: int = 0, greedy: bool = False, wave: int | None = None
    ) -> None:
        super().__init__()
        self.width = width
        self.depth = depth
        self.at_least = at_least
        self.greedy = greedy
        self.wave = wave
        self.tally = Tally()
        self.started = 0
        self.failed = 0
        self.settled: list[int] = []
        self.backlog = Backlog()
        self._likeliest: int | None = None
        self._asked_to_conclude: set[int] = set()
        self._whole: dict[str, bool] = {}

    def ask(self, room: int) -> Sequence[Action]:
        if self.stopped is not None:
            return ()
        actions = self.backlog.drain()
        if self.wave is not None:
            room = min(room, self.wave - self.busy)
        n = min(room, self.width - self.started)
        if n > 0 and not self.winding_down:
            likeliest = 1 if self.greedy and not self.started else 0
            self.started += n
            ids = self.new_ids(n)
            self._likeliest = ids[0] if likeliest else self._likeliest
            for some, greedy in ((ids[:likeliest], True), (ids[likeliest:], False)):
                if some:
                    actions.append(Grow(some, units=self.depth, at_least=self.at_least, greedy=greedy))
        return actions

    def take(self, drafts: Sequence[Trajectory]) -> Self:
        """Drafts count as samples that are in already, beside the ``width`` of the search itself."""
        super().take(drafts)
        self.width += len(drafts)
        self.started += len(drafts)
        for draft in drafts:
            self.settled.append(draft.id)
            self.settle(draft)
        return self

    def tell(self, trajectory: Trajectory) -> None:
        self.trajectories[trajectory.id] = trajectory
        if trajectory.answer is None and trajectory.id not in self._asked_to_conclude:
            self._asked_to_conclude.add(trajectory.id)
            self.backlog.conclude.append(trajectory.id)
        else:
            self.settled.append(trajectory.id)
            self.settle(trajectory)

    def tell_lost(self, lost: Lost) -> None:
        super().tell_lost(lost)
        if lost.error:
            self.failed += len(lost.ids)
        else:  # a limit left nothing for them now; there may be room again when others end
            self.started -= len(lost.ids)

    @abstractmethod
    def settle(self, trajectory: Trajectory) -> None:
        """A trajectory is over; its answer is None where even concluding gave none."""

    def count(self, trajectory: Trajectory, weight: float = 1.0, score: float | None = None) -> None:
        """Enter the trajectory's answer into the tally."""
        if trajectory.answer is None:
            self.tally.add(None, weight)
            return
        order = -1.0 if trajectory.id == self._likeliest else None  # before all that came in earlier
        self.tally.add(trajectory.key, weight, score, order, text=trajectory.answer, parsed=trajectory.parsed)
        self._whole[trajectory.key] = self._whole.get(trajectory.key, False) or trajectory.finished

    @property
    def likeliest_votes(self) -> int | None:
        """How many gave the answer that the likeliest one gave, 0 where it gave none; None as long as it is not in."""
        likeliest = self.trajectories.get(-1 if self._likeliest is None else self._likeliest)
        if likeliest is None or likeliest.id not in self.settled:
            return None
        return 0 if likeliest.answer is None else self.tally.count(likeliest.key)

    @property
    def out(self) -> int:
        """Samples that were started and are not over."""
        return self.started - len(self.settled) - self.failed

    @property
    def busy(self) -> int:
        """Samples of which something is still to come."""
        return self.out

    @property
    def remaining(self) -> int:
        """Samples that may still come in."""
        return self.width - len(self.settled) - self.failed

    @property
    def standing(self) -> Standing:
        ranking = self.tally.ranking()
        if not ranking:
            return Standing(notes=self.notes)
        leader = ranking[0]
        candidates = tuple(Candidate(s.text, s.votes, s.score, self._whole[s.key]) for s in ranking)
        return Standing(leader.text, self.confidence, candidates, self._spokesman(leader.key), notes=self.notes)

    def _spokesman(self, key: str) -> int:
        """The trajectory that speaks for an answer: a finished one if there is one, else the first that gave it."""
        having = (id for id in self.settled if self.trajectories[id].key == key)
        first = next(having)
        return next((id for id in (first, *having) if self.trajectories[id].finished), first)

    @property
    def confidence(self) -> float:
        """The posterior mean of the leader's share of the votes, under a uniform prior: (v + 1) / (n + 2)."""
        leader = self.tally.leader
        return (leader.votes + 1) / (self.tally.total + 2) if leader else 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.ties, *self.losses)

    @property
    def ties(self) -> tuple[str, ...]:
        """A note where the leader has no more votes than the next one."""
        if not self.tally.tie or self.stopped is StopReason.VERIFIED:
            return ()
        texts = " and ".join("/".join(s.text.splitlines()) for s in self.tally.ranking()[:2])
        return (f"a tie between {texts}, broken by score, then by the earlier one",)


class _Ballot(SampleSearch):
    """Nothing but a vote."""

    def settle(self, trajectory: Trajectory) -> None:
        self.count(trajectory)


def voted(trajectories: Iterable[Trajectory], likeliest: int | None = None) -> Standing:
    """The standing of a plain vote of trajectories that are over, those that came in first given first.

    ``likeliest`` is the id of the one whose answer wins ties.
    """
    ballot = _Ballot(0, None)
    ballot._likeliest = likeliest
    return ballot.take(tuple(trajectories)).standing
