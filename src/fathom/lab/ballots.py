"""The rules of searches over independent samples, applied to many draws at a time.

Everything is in the order in which it would come in: (Q, S, k) for Q questions, S draws, k trajectories each. The rules
are those of ``fathom.search`` and ``fathom.judges.votes``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fathom.lab.pool import Columns, Graded
from fathom.lab.statistics import FloatArray, IntArray
from fathom.search.vote import SURE, Rule

__all__ = ["Arrivals", "Result", "adaptive", "best_of_n", "first", "fixed"]

BoolArray = npt.NDArray[np.bool_]
_UNSURE = 0.5  # no vote stops at less than that
_DIGITS = 12  # to which sums of weights are told apart: beyond them the order of adding shows


@dataclass(frozen=True, eq=False)
class Result:
    """What a strategy comes to on each draw, (Q, S) each.

    ``right`` is 1 where its answer is right. ``tokens`` are all units generated, those of cut trajectories too,
    ``steps`` the steps that it takes, ``started`` the trajectories that it begins, and ``verdicts`` how many of them
    its judge is asked about.
    """

    right: FloatArray
    tokens: FloatArray
    steps: FloatArray
    confidence: FloatArray
    started: FloatArray
    verdicts: FloatArray

    @classmethod
    def joined(cls, parts: Sequence[Result]) -> Result:
        """The results of some questions, and behind them those of others."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Draws in the order of arrival, (Q, S, k): when each is over, which number it has, and what it says.

    Of those that are over at the same step, the one that was started earlier comes first. ``refuted`` are those that
    the model itself knows to be wrong. ``answers`` is the number of different answers that any question has.
    ``sureness`` keeps what rules have said, and up to which threshold.
    """

    over: IntArray
    number: IntArray
    code: IntArray
    parsed: BoolArray
    finished: BoolArray
    refuted: BoolArray
    right: FloatArray
    answers: int
    sequential: bool
    greedy: bool = False  # the first of each draw is the likeliest one, whose answer wins ties
    sureness: dict[Rule, tuple[float, FloatArray]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, samples: Columns, drawn: IntArray, *, sequential: bool = False, greedy: bool = False) -> Arrivals:
        """From samples, (Q, n), and draws, (S, k): all started together, or each when the one before is over."""
        tokens = samples.tokens[:, drawn]
        if sequential:
            number = np.broadcast_to(np.arange(drawn.shape[1]), tokens.shape)
            over = np.cumsum(tokens, axis=-1)
        else:
            number = np.argsort(tokens, axis=-1, kind="stable")
            over = np.take_along_axis(tokens, number, -1)

        def arranged(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
            return np.take_along_axis(values[:, drawn], number, -1)

        return cls(
            over,
            number,
            arranged(samples.code),  # type: ignore[arg-type]
            arranged(samples.parsed),  # type: ignore[arg-type]
            arranged(samples.finished),  # type: ignore[arg-type]
            arranged(samples.valid == 0),  # type: ignore[arg-type]
            arranged(samples.right),  # type: ignore[arg-type]
            int(samples.code.max(initial=0)) + 1,
            sequential,
            greedy,
        )

    def arranged(self, values: FloatArray | IntArray, drawn: IntArray) -> FloatArray:
        """Other values of the samples, (Q, n), in the same order."""
        return np.take_along_axis(values[:, drawn], self.number, -1).astype(float)

    def result(
        self, last: IntArray, right: FloatArray, confidence: FloatArray, verdicts: FloatArray | None = None
    ) -> Result:
        """What a search comes to that ends with the arrival at position ``last``, (Q, S).

        What still runs then has run as long, less a unit where its turn in that step was still to come.
        """
        end = np.take_along_axis(self.over, last[..., None], -1)
        tokens = steps = end[..., 0].astype(float)
        started = (last + 1).astype(float)
        if not self.sequential:
            number = np.take_along_axis(self.number, last[..., None], -1)
            running = np.arange(self.over.shape[-1]) > last[..., None]
            ran = np.where(running, np.maximum(0, end - (self.number > number)), self.over)
            tokens, started = ran.sum(-1).astype(float), np.full(last.shape, float(self.over.shape[-1]))
        return Result(right, tokens, steps, confidence, started, np.zeros(last.shape) if verdicts is None else verdicts)


@dataclass(frozen=True, eq=False)
class _Leader:
    """Who leads each vote, (Q, S): the answer's code (-1: nobody), its votes, and all votes, blank ones included."""

    code: IntArray
    votes: FloatArray
    total: FloatArray

    @property
    def confidence(self) -> FloatArray:
        return np.where(self.code >= 0, (self.votes + 1) / (self.total + 2), 0.0)


def _leader(
    arrivals: Arrivals, weight: FloatArray | None, score: FloatArray | None, counted: BoolArray | None
) -> _Leader:
    """The leading answer by the order of ``votes.Tally``: parsed, votes, mean score, likeliest, first to come in."""
    q, s, k = arrivals.code.shape
    rows, c = q * s, arrivals.answers
    code = arrivals.code.reshape(rows, k)
    votes_in = (code >= 0) if counted is None else (code >= 0) & counted.reshape(rows, k)
    flat = (np.arange(rows)[:, None] * c + code)[votes_in]

    def summed(values: FloatArray | BoolArray | None) -> FloatArray:
        given = None if values is None else values.reshape(rows, k)[votes_in].astype(float)
        return np.bincount(flat, given, rows * c).reshape(rows, c).astype(float)

    count = summed(None)
    votes = count if weight is None else np.round(summed(weight), _DIGITS)
    leading = count > 0
    leading &= _largest(np.where(leading, summed(arrivals.parsed) > 0, -1))
    leading &= _largest(np.where(leading, votes, -1.0))
    if score is not None:
        leading &= _largest(np.where(leading, np.round(summed(score) / np.maximum(count, 1), _DIGITS), -1.0))
    found = np.full(rows, -1)
    for j in range(k - 1, -1, -1):
        here = votes_in[:, j] & leading[np.arange(rows), code[:, j]]
        found[here] = code[here, j]
    if arrivals.greedy:
        every, at = np.arange(rows), (arrivals.number.reshape(rows, k) == 0).argmax(1)
        here = votes_in[every, at] & leading[every, code[every, at]]
        found[here] = code[every, at][here]
    total_in = np.ones((rows, k)) if weight is None else weight.reshape(rows, k)
    total = total_in.sum(1) if counted is None else np.where(counted.reshape(rows, k), total_in, 0.0).sum(1)
    most = np.where(found >= 0, votes[np.arange(rows), found], 0.0)
    return _Leader(found.reshape(q, s), most.reshape(q, s), total.reshape(q, s))


def _largest(values: FloatArray) -> BoolArray:
    return np.asarray(values == values.max(axis=1, keepdims=True))


def _spoken(arrivals: Arrivals, leader: _Leader, counted: BoolArray | bool = True) -> FloatArray:
    """Whether the trajectory that speaks for the leading answer is right: the first finished one, else the first."""
    having = (arrivals.code == leader.code[..., None]) & counted
    whole = having & arrivals.finished
    speaker = np.where(whole.any(-1), whole.argmax(-1), having.argmax(-1))
    right = np.take_along_axis(arrivals.right, speaker[..., None], -1)[..., 0]
    return np.where(leader.code >= 0, right, 0.0)


def _all(arrivals: Arrivals) -> IntArray:
    """The position of the last arrival, (Q, S)."""
    return np.full(arrivals.code.shape[:2], arrivals.code.shape[2] - 1)


def _until(arrivals: Arrivals, last: IntArray) -> BoolArray:
    return np.arange(arrivals.code.shape[2]) <= last[..., None]


def fixed(arrivals: Arrivals) -> Result:
    """The vote of all of them."""
    leader = _leader(arrivals, None, None, None)
    return arrivals.result(_all(arrivals), _spoken(arrivals, leader), leader.confidence)


def adaptive(arrivals: Arrivals, rule: Rule, sure: float) -> Result:
    """The vote that stops when the rule is so sure of its outcome."""
    least, told = arrivals.sureness.get(rule, (0.0, None))
    if told is None or least < sure:
        told = _sureness(arrivals, rule, sure)
        arrivals.sureness[rule] = sure, told
    enough = told >= sure
    stopped = np.where(enough.any(-1), enough.argmax(-1), arrivals.code.shape[2] - 1)
    counted = _until(arrivals, stopped)
    leader = _leader(arrivals, None, None, counted)
    return arrivals.result(stopped, _spoken(arrivals, leader, counted), leader.confidence)


def _sureness(arrivals: Arrivals, rule: Rule, until: float) -> FloatArray:
    """How sure a rule is after each arrival but the last, (Q, S, k), up to the one after which it is so sure ``until``;
    -1 elsewhere."""
    q, s, k = arrivals.code.shape
    rows = q * s
    code, parsed = arrivals.code.reshape(rows, k), arrivals.parsed.reshape(rows, k)
    count = np.zeros((rows, arrivals.answers), dtype=np.int16)
    read = np.zeros((rows, arrivals.answers), dtype=bool)
    told = np.full((rows, k), -1.0)
    open_ = np.arange(rows)
    for j in range(k - 1):
        given = open_[code[open_, j] >= 0]
        count[given, code[given, j]] += 1
        read[given, code[given, j]] |= parsed[given, j]
        ballots = np.sort(np.where(read[open_], count[open_], 0), axis=1)[:, ::-1]
        ballots = ballots[:, : max(1, int((ballots > 0).sum(1).max(initial=0)))]
        told[open_, j] = _asked(np.ascontiguousarray(ballots), k - 1 - j, rule)
        open_ = open_[told[open_, j] < until]
        if not len(open_):
            break
    return told.reshape(q, s, k)


def _asked(ballots: npt.NDArray[np.int16], remaining: int, rule: Rule) -> FloatArray:
    """How sure a rule is of each of many tallies, (R, answers) with counts falling; equal ones are asked once."""
    packed = ballots.view(np.dtype((np.void, ballots.dtype.itemsize * ballots.shape[1])))[:, 0]
    different, back = np.unique(packed, return_inverse=True)
    return np.array([_sure(rule, one.tobytes().rstrip(b"\0"), remaining) for one in different])[back]


@lru_cache(maxsize=1 << 18)
def _sure(rule: Rule, packed: bytes, remaining: int) -> float:
    """How sure a rule is of counts, falling, that are packed as 16-bit numbers, without zeros at the end."""
    counts = np.frombuffer(packed + b"\0" * (len(packed) % 2), dtype=np.int16).tolist()
    return SURE[rule](counts, remaining, _UNSURE) if counts else -1.0


def first(arrivals: Arrivals, of: int) -> Result:
    """The first ``of`` to finish by themselves decide; those that were cut weigh less together than one of them.

    What the model knows to be wrong has a vote, but does not count among the ``of``.
    """
    k = arrivals.code.shape[2]
    own = arrivals.finished & (arrivals.code >= 0) & ~arrivals.refuted
    reached = np.cumsum(own, axis=-1) >= of
    last = np.where(reached.any(-1), reached.argmax(-1), k - 1)
    weight = np.where(arrivals.finished, 1.0, 1.0 / (k + 1))
    counted = _until(arrivals, last)
    leader = _leader(arrivals, weight, None, counted)
    return arrivals.result(last, _spoken(arrivals, leader, counted), leader.confidence)


def best_of_n(arrivals: Arrivals, graded: Graded, drawn: IntArray, *, weighted: bool, held: bool) -> Result:
    """The best by a judge, or the answer with the largest sum of scores. What the judge passes ends the search.

    ``held``: the judge only grades, and is not asked where all give the same answer. Where no verdict says anything,
    the answers vote.
    """
    k = arrivals.code.shape[2]
    given = arrivals.code >= 0
    passed = arrivals.arranged(graded.passed, drawn)
    told = arrivals.arranged(graded.score, drawn)
    accepted = given & (passed == 1)
    verified = accepted.any(-1)
    last = np.where(verified, accepted.argmax(-1), k - 1)
    counted = _until(arrivals, last)
    asked = given & counted
    if held:
        least = np.where(given, arrivals.code, arrivals.answers).min(-1)
        differing: BoolArray = given & (arrivals.code != least[..., None])
        asked &= differing.any(-1, keepdims=True)
    says: BoolArray = asked & np.isfinite(told)
    heard: BoolArray = np.any(says, axis=-1)
    score = np.where(heard[..., None], np.nan_to_num(told), 0.0)
    weight = np.where(given & heard[..., None], score, 1.0) if weighted else np.ones(given.shape)
    leader = _leader(arrivals, weight, score, counted)
    # worth: not known to be wrong, the score, finished; of equals the first
    wrong = (passed == 0) | arrivals.refuted
    worth = np.where(wrong, 0.0, 4.0) + 2.0 * np.round(score, _DIGITS) + np.where(arrivals.finished, 1e-13, 0.0)
    best = np.where(given & counted, worth, -1.0).argmax(-1)[..., None]
    right, spoken = np.take_along_axis(arrivals.right, best, -1)[..., 0], _spoken(arrivals, leader, counted)
    certain = np.take_along_axis(score, best, -1)[..., 0] * leader.confidence
    certain = np.where(np.take_along_axis(passed, best, -1)[..., 0] == 1, 1.0, certain)
    voted = ~heard | (~verified if weighted else False)
    right, certain = np.where(voted, spoken, right), np.where(voted, leader.confidence, certain)
    any_given = (given & counted).any(-1)
    return arrivals.result(
        last, np.where(any_given, right, 0.0), np.where(any_given, certain, 0.0), asked.sum(-1).astype(float)
    )
