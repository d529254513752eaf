"""What voting gives on a population of questions, exactly.

To a vote, a question is how its answers fall: the share of the right one, the share of the wrong one that the model
likes best (its *rival*), and stray ones that hardly ever come twice. A population is a mixture of such kinds of
question. The *likeliest* line of thought (greedy decoding) is no sample: it says what a vote of several samples would.
Everything that a plan asks follows from it by sums over multinomials: the accuracy of a vote at any width, the coverage
of any number of attempts (pass@k, arXiv 2107.03374), and, once some votes are in, by Bayes how likely the leader is
right and how likely it will be after more of them, which is what tells an easy question from a hard one and from one
that is not worth more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

__all__ = ["Forecast", "Kind", "Population", "Seen"]

HORIZON = 16
"""Samples that are looked ahead: what so many do not change, more hardly do."""

RIGHT, RIVAL, STRAY = 1, 2, 3
"""What the likeliest line of thought may have said; 0 where nobody asked for it."""

_LEAST = 0.004  # of any share when votes are explained: nothing that a model says is impossible
_TINY = 1e-9
_NEGLIGIBLE = 1e-4  # of the likeliest explanation of what was seen


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of question: its ``weight`` in the population, the shares of the ``right`` answer and of its ``rival``."""

    weight: float
    right: float
    rival: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a vote: ``votes`` in all, those for the leader (``first``), those for the runner-up.

    ``likeliest`` is the place of the answer that the likeliest line of thought gave: 1 the leader, 2 the runner-up, 3
    another; 0 where all were drawn.
    """

    votes: int = 0
    first: int = 0
    second: int = 0
    likeliest: int = 0

    @classmethod
    def of(cls, counts: Sequence[int], votes: int, likeliest: int | None = None) -> Seen:
        """From the votes for each answer, most first, and the number of all, blank ones included. ``likeliest`` is how
        many there are for the answer of the likeliest line of thought, 0 where that gave none."""
        first, second, *_ = (*counts, 0, 0)
        place = 0 if likeliest is None else 1 if likeliest == first else 2 if likeliest == second else 3
        return cls(votes, first, second, place if first else 0)

    def agreeing(self, more: int) -> Seen:
        """The same with so many more votes, all for the leader."""
        return Seen(self.votes + more, self.first + more, self.second, self.likeliest)


@dataclass(frozen=True, slots=True)
class Forecast:
    """The probability that the leader is right: ``now``, and ``then``, once all further samples are in."""

    now: float
    then: float

    @property
    def gain(self) -> float:
        return self.then - self.now


@dataclass(frozen=True)
class Population:
    """A mixture of kinds of question. The weights are normalised. The likeliest line of thought says what a vote of
    ``likeliest`` samples would; 1 makes it a sample like others."""

    kinds: tuple[Kind, ...]
    likeliest: int = 1

    def __post_init__(self) -> None:
        total = math.fsum(kind.weight for kind in self.kinds)
        if not (total > 0 and all(kind.weight >= 0 for kind in self.kinds)):
            raise ValueError("a population needs kinds of question with weights that are not negative, one above 0")
        object.__setattr__(self, "kinds", tuple(_sound(kind, total) for kind in self.kinds if kind.weight > 0))

    @classmethod
    def of(cls, questions: Iterable[tuple[int, Sequence[int], int]], grid: int = 16) -> Population:
        """From samples: for each question how many are right, how many gave each wrong answer, how many there are.

        Shares are rounded to a grid, so that the population stays small however many questions there are. Of few
        samples the shares scatter more than the truth does: give eight or more of each question.
        """
        weights: dict[tuple[int, int], int] = {}
        for right, wrong, n in questions:
            key = round(grid * right / n), round(grid * max(wrong, default=0) / n)
            weights[key] = weights.get(key, 0) + 1
        return cls(tuple(Kind(w, right / grid, rival / grid) for (right, rival), w in sorted(weights.items())))

    @cached_property
    def _hash(self) -> int:
        return hash((self.kinds, self.likeliest))

    def __hash__(self) -> int:
        return self._hash

    @lru_cache(maxsize=4096)  # noqa: B019  (populations are few and small, and live as long as their plans)
    def accuracy(self, width: int, *, greedy: bool = False) -> float:
        """The share of questions whose right answer leads a vote of ``width``; ties go either way.

        ``greedy`` has the likeliest line of thought among them, whose answer wins ties.
        """
        if not greedy:
            return math.fsum(kind.weight * _leading(kind, 0, 0, 0, width) for kind in self.kinds)
        return math.fsum(
            kind.weight * chance * _leading(kind, first == RIGHT, first == RIVAL, 1, width, first)
            for kind in self.kinds
            for first, chance in _likeliest(kind, self.likeliest)
        )

    def coverage(self, width: int) -> float:
        """The share of questions that ``width`` attempts answer rightly at least once: what a verifier can find."""
        return math.fsum(kind.weight * (1.0 - (1.0 - kind.right) ** width) for kind in self.kinds)

    def attempts(self, width: int) -> tuple[float, ...]:
        """The chances of 1, 2, … ``width`` attempts: until the first right one, or until all are made."""
        left = [math.fsum(kind.weight * (1.0 - kind.right) ** n for kind in self.kinds) for n in range(width)]
        return (*(before - after for before, after in itertools.pairwise(left)), left[-1])

    @lru_cache(maxsize=4096)  # noqa: B019
    def forecast(self, seen: Seen, width: int) -> Forecast:
        """How likely the leader is right now, and after ``width`` votes in all, given what was seen."""
        explained = list(self._explanations(seen))
        likely = max((weight for weight, *_ in explained), default=0.0)
        total = now = then = 0.0
        for weight, kind, right, rival, first in explained:
            if weight < _NEGLIGIBLE * likely:
                continue
            leads = _leads(right, rival, seen.votes, first)
            total += weight
            now += weight * leads
            more = width > seen.votes
            then += weight * (_leading(kind, right, rival, seen.votes, width, first) if more else leads)
        return Forecast(now / total, then / total)

    def _explanations(self, seen: Seen) -> Iterator[tuple[float, Kind, int, int, int]]:
        """Every kind of question with every reading of the votes: how many of those seen are for the right answer and
        for its rival, and which of them the likeliest line of thought gave."""
        for right, rival, first in _readings(seen):
            counts = [right, rival, seen.votes - right - rival]
            if first:
                counts[first - 1] -= 1  # it was not drawn
            ways = math.lgamma(sum(counts) + 1) - sum(math.lgamma(count + 1) for count in counts)
            for kind, logs in zip(self.kinds, self._logs, strict=True):
                chance = math.exp(ways + sum(count * log for count, log in zip(counts, logs, strict=True)))
                said = max(_LEAST, _likeliest(kind, self.likeliest)[first - 1][1]) if first else 1.0
                yield kind.weight * chance * said, kind, right, rival, first

    @cached_property
    def _logs(self) -> list[tuple[float, ...]]:
        """Of each kind the logarithms of its shares, as votes are explained by them."""
        raised = [[max(_LEAST, share) for share in (k.right, k.rival, 1.0 - k.right - k.rival)] for k in self.kinds]
        return [tuple(math.log(share / sum(shares)) for share in shares) for shares in raised]

    def goes_on(self, seen: Seen, width: int, worth: float) -> bool:
        """Whether samples up to ``width`` in all are expected to gain ``worth`` in accuracy, or their share of it.

        Looked at are all that are left, at most the next ``HORIZON``, and half of them.
        """
        left = min(HORIZON, width - seen.votes)
        if left <= 0:
            return False
        if not seen.first:
            return True
        halfway = seen.votes + (left + 1) // 2
        return any(
            self.forecast(seen, until).gain * left >= worth * (until - seen.votes)
            for until in {seen.votes + left, halfway}
        )

    @lru_cache(maxsize=256)  # noqa: B019
    def draws(self, width: int, worth: float, *, greedy: bool = False) -> tuple[float, ...]:
        """The chances that a vote of at most ``width`` takes 1, 2, … samples when it stops as ``goes_on`` says.

        ``greedy`` has the likeliest line of thought as the first of them.
        """
        reached = [0.0] * (width + 1)  # the chance that sample n + 1 is drawn
        for kind in self.kinds:
            shares = kind.right, kind.rival, max(0.0, 1.0 - kind.right - kind.rival)
            for first, chance in _likeliest(kind, self.likeliest) if greedy else ((0, 1.0),):
                open_states = {(int(first == RIGHT), int(first == RIVAL)): chance}
                reached[0] += kind.weight * chance if first else 0.0
                for n in range(1 if first else 0, width):
                    going = {
                        (r, w): p
                        for (r, w), p in open_states.items()
                        if self.goes_on(_seen(r, w, n, first), width, worth)
                    }
                    reached[n] += kind.weight * math.fsum(going.values())
                    open_states = {}
                    for (r, w), p in going.items():
                        for at, share in zip(((r + 1, w), (r, w + 1), (r, w)), shares, strict=True):
                            open_states[at] = open_states.get(at, 0.0) + p * share
        return tuple(before - after for before, after in itertools.pairwise(reached))

    def agreement(self, first: int, width: int) -> list[tuple[int, float, float, float]]:
        """What the agreement of the first samples tells: for each number of votes that the leader may have of
        ``first``, how often it has them, how likely it is right then, and how likely after ``width`` in all."""
        rows: dict[int, list[float]] = {}
        for votes in range(1, first + 1):
            for second in range(votes < first, min(votes, first - votes) + 1):  # whoever differs is a runner-up
                seen = Seen(first, votes, second)
                chance = math.fsum(weight for weight, *_ in self._explanations(seen))
                forecast = self.forecast(seen, width)
                row = rows.setdefault(votes, [0.0, 0.0, 0.0])
                for i, share in enumerate((1.0, forecast.now, forecast.then)):
                    row[i] += chance * share
        return [(votes, often, now / often, then / often) for votes, (often, now, then) in rows.items() if often > 0]

    def unfound(self, failures: int, width: int) -> float:
        """The chance that one of ``width`` attempts in all is right, after ``failures`` of them were wrong."""
        wrong = [kind.weight * (1.0 - kind.right) ** failures for kind in self.kinds]
        left = [w * (1.0 - kind.right) ** (width - failures) for w, kind in zip(wrong, self.kinds, strict=True)]
        return 1.0 - math.fsum(left) / math.fsum(wrong)

    def unanimous(self, width: int) -> tuple[float, float]:
        """How often ``width`` samples all agree, and how often they are right then."""
        agree = [(kind.weight * kind.right**width, kind.weight * kind.rival**width) for kind in self.kinds]
        right, wrong = math.fsum(r for r, _ in agree), math.fsum(w for _, w in agree)
        return right + wrong, right / (right + wrong) if right else 0.0


def _sound(kind: Kind, total: float) -> Kind:
    right = min(1.0 - _LEAST, max(0.0, kind.right))
    return Kind(kind.weight / total, right, min(1.0 - right, max(0.0, kind.rival)))


@lru_cache(maxsize=4096)
def _likeliest(kind: Kind, samples: int) -> tuple[tuple[int, float], ...]:
    """The chances that the likeliest line of thought gives the right answer, its rival and another one: those that each
    leads so many samples."""
    right = _leading(kind, 0, 0, 0, samples)
    rival = _leading(Kind(1.0, min(1.0 - _LEAST, kind.rival), kind.right), 0, 0, 0, samples)
    return (RIGHT, right), (RIVAL, rival), (STRAY, max(0.0, 1.0 - right - rival))


def _leads(right: int, rival: int, votes: int, first: int = 0) -> float:
    """The chance that the right answer leads, ties broken at random, or as the likeliest line of thought (``first``)
    says; stray answers have one vote each."""
    stray = votes - right - rival
    top = max(right, rival, 1 if stray else 0)
    if right < top or top == 0:
        return 0.0
    if first == RIGHT:
        return 1.0
    if (first == RIVAL and rival == top) or (first == STRAY and top == 1):
        return 0.0
    return 1.0 / (1 + (rival == top) + (stray if top == 1 else 0))


@lru_cache(maxsize=1 << 16)
def _leading(kind: Kind, right: int, rival: int, votes: int, width: int, first: int = 0) -> float:
    """The chance that the right answer leads after ``width`` votes, given those that are in."""
    m = width - votes
    s = kind.right
    q = min(1.0, kind.rival / (1.0 - s))  # of what is not right
    total, chance = 0.0, (1.0 - s) ** m
    for i in range(m + 1):
        rest = m - i
        if chance < _TINY:
            chance *= rest / (i + 1) * s / (1.0 - s)
            continue
        pair, inner = (1.0 - q) ** rest, 0.0
        for j in range(rest + 1):
            if rival + j > right + i:
                break
            inner += pair * _leads(right + i, rival + j, width, first)
            pair = pair * (rest - j) / (j + 1) * q / (1.0 - q) if q < 1.0 else float(j + 1 == rest)
        total += chance * inner
        chance *= rest / (i + 1) * s / (1.0 - s)
    return total


def _readings(seen: Seen) -> Iterator[tuple[int, int, int]]:
    """Votes for the right answer and for its rival that look like what was seen, and which of these the likeliest line
    of thought gave (0 where it was not asked for); the other answers are stray."""
    n, first, second = seen.votes, seen.first, seen.second
    roles = (RIGHT, RIVAL, STRAY)
    found = set()
    for leader, runner_up in itertools.product(roles, roles):
        if leader == runner_up != STRAY or (leader == STRAY and first > 1) or (runner_up == STRAY and second > 1):
            continue
        if second == 0 and runner_up != STRAY and leader == STRAY:
            continue
        right, rival = (first if leader == role else second if runner_up == role else 0 for role in roles[:2])
        said = (0, leader, runner_up, STRAY)[seen.likeliest]
        if (said != STRAY or n > right + rival) and (not said or said == STRAY or (right, rival)[said - 1]):
            found.add((right, rival, said))
    if n >= first + second:
        yield from sorted(found)


def _seen(right: int, rival: int, votes: int, said: int = 0) -> Seen:
    """What a vote looks like; ``said`` is what the likeliest line of thought gave."""
    stray = votes - right - rival
    second, first = sorted((right, rival))
    if stray and second == 0:
        first, second = max(first, 1), 1 if first or stray > 1 else 0
    return Seen.of((first, second), votes, (right, rival, 1)[said - 1] if said else None)
