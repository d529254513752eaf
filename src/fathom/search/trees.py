"""What all searches over reasoning steps share: grow a step, judge it, choose what to go on with, and again.

A step ends at a blank line or after ``step_tokens`` tokens. When everything of a step has come back it is judged in one
batch, equal texts once, and the search *chooses*: how many children each open line of thought gets, none for those
that are given up. Since it waits for the whole step, the tree depends on the seed alone, not on who was faster. A line
of thought that ends is an answer and is kept aside; when the run must wind down, all open ones are made to conclude.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from fathom.errors import SpecError
from fathom.judges.base import Verdict, Verifier
from fathom.judges.registry import judge_option
from fathom.reasoner import Capability
from fathom.records import StopReason, Trajectory
from fathom.search.base import Action, Drop, Grow, Lost, Standing, Strategy, Terms, at_least
from fathom.search.judged import JudgedSearch, own_verdict, refuse_comparing
from fathom.search.samples import agreed_width
from fathom.specs import option

__all__ = ["TreeSearch", "TreeStrategy", "divided"]


def divided(name: str, width: int, branching: int) -> int:
    """``width`` where ``branching`` divides it. Raises SpecError where it does not."""
    if width % branching:
        near = max(branching, width - width % branching)
        raise SpecError(
            f"{name} keeps one line of thought in {branching}: a width of {width} is no multiple of branching="
            f"{branching}; a width of {near} is"
        )
    return width


@dataclass(frozen=True)
class TreeStrategy(Strategy):
    """The options that all searches over steps have."""

    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.STEPS, Capability.FORK})

    width: int | None = option(None, "lines of thought at a time (default: the budget's width, else 16)")
    judge: Verifier | None = judge_option(None, "who scores steps and answers (default: mean token log-probability)")
    select: Literal["weighted", "vote", "best"] = option(
        "weighted", "the answer: weighted (largest sum of scores), vote (most lines of thought), best (top score)"
    )
    step_tokens: int = option(96, "tokens of a step at most; it ends at a blank line before that")
    steps: int = option(40, "steps of a line of thought at most; then it is concluded")
    depth: int | None = option(None, "units of reasoning for each at most; 0 answers at once")

    def __post_init__(self) -> None:
        at_least(self._name, 1, step_tokens=self.step_tokens, steps=self.steps)
        refuse_comparing(self._name, self.judge)

    @property
    def _name(self) -> str:
        return type(self).__name__.lower()

    @property
    def required(self) -> frozenset[Capability]:
        return super().required if self.judge is not None else self.needs | {Capability.LOGPROBS}

    def agreed(self, terms: Terms) -> int:
        """The width to run. Raises LimitError or SpecError for one that cannot be run."""
        return agreed_width(self.width, terms)


class TreeSearch(JudgedSearch):
    """A running search over steps. Subclasses ``choose``. Drafts are answers that are in already.

    ``level`` has the open lines of thought of the present step, ``scores`` the judge's score of each node, ``parents``
    the node that each continues.
    """

    def __init__(self, said: TreeStrategy, terms: Terms) -> None:
        super().__init__(said.judge, said.agreed(terms), said.depth if said.depth is not None else terms.depth)
        self.said = said
        self.steps = 0
        self.level: list[int] = []
        self.scores: dict[int, float] = {}
        self.parents: dict[int, int | None] = {}
        self._pending: deque[tuple[int | None, int]] = deque([(None, self.width)])
        self._growing: set[int] = set()
        self._concluding: set[int] = set()
        self._children: dict[int, int] = {}
        self._back: list[int] = []  # and not judged yet
        self._judging: dict[int, list[int]] = {}  # who was asked about, and all who have the same text
        self._stale: set[int] = set()  # asked about as a step, and since then concluded
        self._ended: list[int] = []  # of this step
        self._final: set[int] = set()
        self._expanded: list[int] = []  # their children are this step
        self._dropped: list[int] = []

    @abstractmethod
    def choose(self, level: Sequence[int], ended: Sequence[int]) -> Iterable[tuple[int, int]]:
        """How many children to give to which of ``level``; the others are dropped. Ids ascend, all have scores.

        ``ended`` has those that came to their end in this step.
        """

    def ask(self, room: int) -> Sequence[Action]:
        if self.stopped is not None:
            return ()
        resting = not (self._growing or self._pending or self._concluding)
        if self._back and (resting or self.winding_down):
            self._have_judged()
        if resting and self.level and not (self._judging or self._back or self.winding_down or self.stopped):
            self._advance()
        actions: list[Action] = []
        if self._dropped:
            actions.append(Drop(tuple(self._dropped)))
            self._dropped = []
        actions += self.backlog.drain()
        while room > 0 and self._pending:
            parent, n = self._pending.popleft()
            if n > room:
                self._pending.appendleft((parent, n - room))
            actions.append(self._grow(parent, min(n, room)))
            room -= n
        return actions

    def _grow(self, parent: int | None, n: int) -> Grow:
        ids = self.new_ids(n)
        self._growing.update(ids)
        self.parents.update(dict.fromkeys(ids, parent))
        if parent is not None:
            self._children[parent] = self._children.get(parent, 0) + n
        units = self.said.step_tokens
        if self.depth is not None:
            units = min(units, self.depth - (0 if parent is None else self.trajectories[parent].depth))
        return Grow(ids, parent, units=units, to_step=True)

    def _advance(self) -> None:
        self.steps += 1
        level, ended = sorted(self.level), sorted(self._ended)
        self.level, self._ended = [], []
        self._pending.extend((id, n) for id, n in self.choose(level, ended) if n > 0)
        kept = {id for id, _ in self._pending}
        self._dropped += [*self._expanded, *(id for id in level if id not in kept)]
        self._expanded = [id for id in level if id in kept]

    def distinct(self, ids: Iterable[int]) -> list[int]:
        """The first of each text: duplicates of a step are not expanded."""
        return list({self.trajectories[id].text: id for id in sorted(ids, reverse=True)}.values())[::-1]

    def tell(self, trajectory: Trajectory) -> None:
        id = trajectory.id
        self.trajectories[id] = trajectory
        self._growing.discard(id)
        if id in self._concluding or trajectory.answer is not None:
            self._concluding.discard(id)
            self.settled.append(id)
            self.settle(trajectory)
        elif trajectory.finished or self.winding_down or self._at_end(trajectory):
            self._conclude(id)
        else:
            self.level.append(id)
            self._back.append(id)

    def _at_end(self, trajectory: Trajectory) -> bool:
        """Whether it may not go on, by the limits on depth and steps, or could not."""
        parent = self.parents[trajectory.id]
        before = 0 if parent is None else self.trajectories[parent].depth
        deep = self.depth is not None and trajectory.depth >= self.depth
        return deep or trajectory.depth == before or self.steps + 1 >= self.said.steps

    def _conclude(self, id: int) -> None:
        self._concluding.add(id)
        self.backlog.conclude.append(id)

    def settle(self, trajectory: Trajectory) -> None:
        id = trajectory.id
        self._final.add(id)
        if id in self.parents:
            self._ended.append(id)
        if trajectory.answer is not None:
            self._back.append(id)
        else:
            self.count(trajectory)
            self.enter(id, 0.0)

    def tell_lost(self, lost: Lost) -> None:
        super().tell_lost(lost)
        for id in lost.ids:
            self._growing.discard(id)
            parent = self.parents.pop(id)
            if parent is not None:
                self._children[parent] -= 1
            if not lost.error and not self.winding_down:  # there may be room for it when others have ended
                self._pending.append((parent, 1))
            elif parent is not None and not self._children[parent] and all(p != parent for p, _ in self._pending):
                self._conclude(parent)

    def wind_down(self) -> None:
        super().wind_down()
        groups = [id for id in self._judging if id not in self._final]
        self._stale.update(groups)
        for id in groups:
            del self._judging[id]
        self._back = [id for id in self._back if id in self._final]
        for id in self._resting():
            self._conclude(id)
        self.level = []
        self._pending.clear()

    def _resting(self) -> list[int]:
        """Open lines of thought that are not growing."""
        chosen = {parent: None for parent, _ in self._pending if parent is not None and not self._children.get(parent)}
        return [*self.level, *chosen]

    @property
    def at_rest(self) -> int:
        return len(self._resting())

    def _have_judged(self) -> None:
        ids, self._back = sorted(self._back), []
        first: dict[tuple[str, str | None, float | None], int] = {}
        for id in ids:
            trajectory = self.trajectories[id]
            asked = first.setdefault((trajectory.text, trajectory.answer, trajectory.value), id)
            self._judging.setdefault(asked, []).append(id)
        if self.judge is not None:
            self.backlog.judge += first.values()
        else:
            for id in first.values():
                self.tell_verdict(id, own_verdict(self.trajectories[id]))

    def tell_verdict(self, id: int, verdict: Verdict) -> None:
        if id in self._stale:
            self._stale.remove(id)
            return
        self.note(verdict)
        for same in self._judging.pop(id, ()):
            self.enter(same, verdict.score)
            if same in self._final:
                super().tell_verdict(same, verdict)

    def enter(self, id: int, score: float) -> None:
        """A node has its score."""
        self.scores[id] = score

    def weight(self, verdict: Verdict) -> float:
        return verdict.score if self.said.select == "weighted" else float(verdict.passed is not False)

    @property
    def standing(self) -> Standing:
        tallied = self.tallied
        if self.said.select == "best" or self.stopped is StopReason.VERIFIED or tallied.best is None:
            return super().standing
        verdict = self.verdicts.get(tallied.best)
        return replace(tallied, valid=verdict.passed if verdict is not None else None)
