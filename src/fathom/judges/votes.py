"""Self-consistency's ballot: candidates vote for the answer that they reached, and the fullest answer leads
(Wang et al., arXiv 2203.11171). One vote each gives the majority; weights give the score-weighted vote.

The order of answers, from first to last: parsed before unparsed, so that noise never outvotes an answer; more votes;
the higher mean score; the answer that was first reached. A leader that only the last two rules decide is a tie, and the
tally says so. The ranking depends on what was added, not on when: `order` carries the order of finishing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Standing", "Tally"]


@dataclass(frozen=True, slots=True)
class Standing:
    """How one answer stands: its `key` and a `text` to show, its `votes` (sum of weights) from `count` candidates,
    the mean `score` of those that had one, and the `order` in which its first candidate finished."""

    key: str
    text: str
    votes: float
    count: int
    score: float | None
    order: float
    parsed: bool

    @property
    def _before_ties(self) -> tuple[bool, float]:
        return not self.parsed, -self.votes

    @property
    def _rank(self) -> tuple[bool, float, float, float, str]:
        return not self.parsed, -self.votes, math.inf if self.score is None else -self.score, self.order, self.key


@dataclass(slots=True)
class _Answer:
    parsed: bool
    texts: list[tuple[float, str]] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    _standing: Standing | None = None

    def standing(self, key: str) -> Standing:
        # fsum is exact before its one rounding, so the order of adding cannot show in the result
        if self._standing is None:
            score = math.fsum(self.scores) / len(self.scores) if self.scores else None
            order, text = min(self.texts)
            self._standing = Standing(key, text, math.fsum(self.weights), len(self.weights), score, order, self.parsed)
        return self._standing


class Tally:
    """Votes as they come in. `add` is O(1); the properties are O(answers) after an add and O(1) otherwise.

    >>> tally = Tally()
    >>> for answer in ("7", "8", "7"):
    ...     tally.add(answer)
    >>> tally.leader.key, tally.tie, round(tally.confidence, 2)
    ('7', False, 0.67)
    """

    def __init__(self) -> None:
        self._answers: dict[str, _Answer] = {}
        self._blank: list[float] = []
        self._added = 0
        self._ranking: tuple[Standing, ...] | None = ()

    def add(
        self,
        key: str | None,
        weight: float = 1.0,
        score: float | None = None,
        order: float | None = None,
        *,
        text: str | None = None,
        parsed: bool = True,
    ) -> None:
        """Counts a candidate's vote for the answer `key`, or a blank vote where it stated no answer (None).

        `order` is when the candidate finished relative to others (default: the order of adding). A blank leads
        nothing, but takes from the confidence. Raises ValueError for a weight that is negative or not finite, and
        for a score that is NaN.
        """
        if not (weight >= 0 and math.isfinite(weight)):
            raise ValueError(f"a vote's weight must be finite and not negative, not {weight!r}")
        if score is not None and math.isnan(score):
            raise ValueError("a vote's score must not be NaN")
        self._ranking = None
        self._added += 1
        if key is None:
            self._blank.append(weight)
            return
        answer = self._answers.get(key)
        if answer is None:
            answer = self._answers[key] = _Answer(parsed)
        answer._standing = None
        answer.parsed |= parsed
        answer.texts.append((self._added - 1 if order is None else order, key if text is None else text))
        answer.weights.append(weight)
        if score is not None:
            answer.scores.append(score)

    def __len__(self) -> int:
        """How many candidates voted, blank votes included."""
        return self._added

    def __iter__(self) -> Iterator[Standing]:
        return iter(self.ranking())

    def ranking(self) -> tuple[Standing, ...]:
        """All answers, the leader first."""
        if self._ranking is None:
            standings = (answer.standing(key) for key, answer in self._answers.items())
            self._ranking = tuple(sorted(standings, key=lambda standing: standing._rank))
        return self._ranking

    @property
    def leader(self) -> Standing | None:
        """The answer that leads, or None where nobody stated any."""
        return next(iter(self.ranking()), None)

    @property
    def tie(self) -> bool:
        """Whether the runner-up has as many votes as the leader, so that score or time decided between them."""
        first = self.ranking()[:2]
        return len(first) == 2 and first[0]._before_ties == first[1]._before_ties

    @property
    def total(self) -> float:
        """The sum of all weights, blank and unparsed votes included."""
        votes = (weight for answer in self._answers.values() for weight in answer.weights)
        return math.fsum((*votes, *self._blank))

    @property
    def confidence(self) -> float:
        """The leader's share of all votes, in [0, 1]; 0 where there is no leader or no weight."""
        leader, total = self.leader, self.total
        return min(1.0, leader.votes / total) if leader is not None and total > 0 else 0.0

    def count(self, key: str) -> int:
        """How many candidates reached this answer, 0 where it was not parsed."""
        answer = self._answers.get(key)
        return len(answer.weights) if answer is not None and answer.parsed else 0

    @property
    def counts(self) -> list[int]:
        """How many candidates reached each parsed answer, most first: what the rules of `stopping` ask for.

        Empty while no answer was parsed, since the first one that is will lead whatever came before.
        """
        return sorted((len(answer.weights) for answer in self._answers.values() if answer.parsed), reverse=True)
