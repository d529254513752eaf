"""Adaptive branching tree search (AB-MCTS, arXiv 2503.04412): at every node, wider or deeper, by Thompson sampling.

A node is an answer. *Wider* makes another one from where the node stands: at the root a fresh sample, further down a
refinement that sees the node's answer and what the judge found about it. *Deeper* goes to one of the node's children.
Which, is drawn: each choice has a posterior over the scores that it has led to, a draw is made from each, and the
highest wins (AB-MCTS-A: all children together stand against going wider, with everything found beneath them).

Several answers can be on their way at a time. Each counts, until it is there, as one that scored nothing, along its
whole path, so that the next choice is likely to be another (virtual loss, Chaslot et al., 2008).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

from fathom.judges.base import Verdict, Verifier
from fathom.judges.registry import judge_option
from fathom.reasoner import Capability
from fathom.records import Trajectory
from fathom.search.base import STRATEGIES, Action, Grow, Lost, Strategy, Terms, at_least
from fathom.search.judged import JudgedSearch, refuse_comparing
from fathom.search.samples import agreed_width
from fathom.search.thompson import Arms, Beta, Family, Student
from fathom.specs import option

__all__ = ["BELIEFS", "BranchingTree", "Mcts"]

Belief = Literal["beta", "gaussian"]
BELIEFS: Mapping[Belief, Family] = {"beta": Beta(), "gaussian": Student()}
ROOT = -1
MANY = 8
"""Children from which on they compete as arms of one Thompson sampler; to draw for a few of them costs less."""


@STRATEGIES.register("mcts", source="arXiv 2503.04412")
@dataclass(frozen=True)
class Mcts(Strategy):
    """A tree of answers that grows wider or deeper by Thompson sampling, where the scores say that it pays.

    Drafts of an earlier search are judged first and become the root's first children.
    """

    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.REVISE})

    width: int | None = option(None, "answers in all (default: the budget's width, else 16)")
    judge: Verifier | None = judge_option(None, "who scores them (default: their mean token log-probability)")
    posterior: Belief = option("beta", "of the scores: beta, or gaussian (with unknown mean and variance)")
    wave: int = option(4, "answers on their way at a time, at most")
    depth: int | None = option(None, "units of reasoning for each answer at most")

    def __post_init__(self) -> None:
        at_least("mcts", 1, wave=self.wave)
        refuse_comparing("mcts", self.judge)

    @property
    def required(self) -> frozenset[Capability]:
        return super().required | (frozenset() if self.judge is not None else {Capability.LOGPROBS})

    def begin(self, terms: Terms) -> MctsSearch:
        depth = self.depth if self.depth is not None else terms.depth
        return MctsSearch(self, agreed_width(self.width, terms), depth, terms.seed).take(terms.drafts)


class MctsSearch(JudgedSearch):
    """The running search. An answer can be refined once its score is there."""

    def __init__(self, said: Mcts, width: int, depth: int | None, seed: int) -> None:
        super().__init__(said.judge, width, depth)
        self.said = said
        self.tree = BranchingTree(random.Random(seed), said.posterior)

    def take(self, drafts: Sequence[Trajectory]) -> Self:
        for draft in drafts:
            self.tree.expect(draft.id, ROOT)
        return super().take(drafts)

    def ask(self, room: int) -> Sequence[Action]:
        if self.stopped is not None:
            return ()
        actions = self.backlog.drain()
        if self.winding_down:
            return actions
        asked: dict[int, list[int]] = {}
        for id in self.new_ids(max(0, min(room, self.width - self.started, self.said.wave - self.tree.expected))):
            node = self.tree.select()
            self.tree.expect(id, node)
            asked.setdefault(node, []).append(id)
            self.started += 1
        return [*actions, *(self._grow(node, tuple(ids)) for node, ids in asked.items())]

    def _grow(self, node: int, ids: tuple[int, ...]) -> Grow:
        if node == ROOT:
            return Grow(ids, units=self.depth)
        return Grow(ids, units=self.depth, sources=(node,), feedback=self.finding(node))

    def settle(self, trajectory: Trajectory) -> None:
        super().settle(trajectory)
        if trajectory.answer is None:
            self.tree.forget(trajectory.id)

    def tell_verdict(self, id: int, verdict: Verdict) -> None:
        super().tell_verdict(id, verdict)
        self.tree.arrive(id, verdict.score)

    def tell_lost(self, lost: Lost) -> None:
        super().tell_lost(lost)
        for id in lost.ids:
            self.tree.forget(id)


@dataclass(slots=True)
class _Scores:
    """Samples of scores, one for each node: how many, their sum, and that of their squares.

    A score that is on its way is counted already, as 0.
    """

    n: list[int] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    squares: list[float] = field(default_factory=list)

    def append(self) -> None:
        self.n.append(0)
        self.total.append(0.0)
        self.squares.append(0.0)

    def settle(self, node: int, score: float) -> None:
        self.total[node] += score
        self.squares[node] += score * score


class BranchingTree:
    """Adaptive branching by itself: which answer to expand, and what its scores do to the choices after it.

    Answers are named by ids, the root by ``ROOT``; inside, nodes are counted, and the root is the first.
    """

    def __init__(self, rng: random.Random, belief: Belief = "beta") -> None:
        self.random = rng
        self.family = BELIEFS[belief]
        self.ids: list[int] = []
        self.node_of: dict[int, int] = {}
        self.parent: list[int] = []
        self.children: list[list[int]] = []  # those whose scores are there
        self.score: list[float] = []
        self.made = _Scores()  # of the answers made at the node
        self.below = _Scores()  # of the node itself and of all beneath it
        self.arms: dict[int, Arms] = {}  # the children of nodes that have many
        self.stale: dict[int, dict[int, None]] = {}  # those of them of which more is known than their arms tell
        self.expected = 0  # answers that are on their way
        self._add(ROOT, -1)

    def _add(self, id: int, parent: int) -> int:
        node = len(self.ids)
        self.ids.append(id)
        self.node_of[id] = node
        self.parent.append(parent)
        self.children.append([])
        self.score.append(0.0)
        self.made.append()
        self.below.append()
        return node

    def select(self) -> int:
        """The answer from which to make another one, or ROOT."""
        posterior, draw, rng = self.family.posterior, self.family.draw, self.random
        made, n, total, squares = self.made, self.below.n, self.below.total, self.below.squares
        node = 0
        while children := self.children[node]:
            own = self.score[node]  # is no evidence about what lies beneath
            beneath = posterior(n[node] - (node > 0), total[node] - own, squares[node] - own * own)
            wider = posterior(made.n[node], made.total[node], made.squares[node])
            if draw(wider, rng) >= draw(beneath, rng):
                break
            if len(children) >= MANY:
                node = self._contest(node)
            elif len(children) > 1:
                drawn = [draw(posterior(n[child], total[child], squares[child]), rng) for child in children]
                node = children[drawn.index(max(drawn))]
            else:
                node = children[0]
        return self.ids[node]

    def _contest(self, node: int) -> int:
        """The child with the largest draw, without drawing for all of them."""
        arms, below = self.arms.get(node), self.below
        if arms is None:
            arms = self.arms[node] = Arms(self.random, self.family)
            self.stale[node] = dict.fromkeys(self.children[node])
        for child in self.stale[node]:
            arms.put(child, self.family.posterior(below.n[child], below.total[child], below.squares[child]))
        self.stale[node].clear()
        return arms.choose()

    def expect(self, id: int, parent: int) -> None:
        """An answer is being made from another one, or from the root."""
        self.expected += 1
        self._count(self._add(id, self.node_of[parent]), 1)

    def arrive(self, id: int, score: float) -> None:
        """An answer is there, with its score in [0, 1]."""
        self.expected -= 1
        node = self.node_of[id]
        self.score[node] = score
        self.children[self.parent[node]].append(node)
        self.made.settle(self.parent[node], score)
        while node >= 0:
            self.below.settle(node, score)
            node = self._noted(node)

    def forget(self, id: int) -> None:
        """Nothing came of an answer that was on its way."""
        self.expected -= 1
        self._count(self.node_of[id], -1)

    def _count(self, node: int, change: int) -> None:
        self.below.n[node] += change
        node = self.parent[node]
        self.made.n[node] += change
        while node >= 0:
            self.below.n[node] += change
            node = self._noted(node)

    def _noted(self, node: int) -> int:
        """The parent of a node about which something new is known."""
        parent = self.parent[node]
        if parent in self.stale:
            self.stale[parent][node] = None
        return parent
