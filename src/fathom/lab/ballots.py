"""The rules of searches over independent samples, applied to many draws at a time.

Everything is in the order in which it would come in: (Q, S, k) for Q questions, S draws, k trajectories each. The rules
are those of ``fathom.search`` and ``fathom.judges.votes``; a result is (right, tokens, steps, confidence), (Q, S) each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fathom.lab.pool import Columns, Graded
from fathom.lab.statistics import FloatArray, IntArray
from fathom.search.vote import SURE, Rule

__all__ = ["Arrivals", "Result", "adaptive", "best_of_n", "first", "fixed"]

BoolArray = npt.NDArray[np.bool_]
Result = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
_DIGITS = 12  # to which sums of weights are told apart: beyond them the order of adding shows


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Draws in the order of arrival, (Q, S, k): when each is over, which number it has, and what it says.

    Of those that are over at the same step, the one that was started earlier comes first. ``answers`` is the number of
    different answers that any question has.
    """

    over: IntArray
    number: IntArray
    code: IntArray
    parsed: BoolArray
    finished: BoolArray
    right: FloatArray
    answers: int
    sequential: bool
    greedy: bool = False  # the first of each draw is the likeliest one, whose answer wins ties

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
            arranged(samples.right),  # type: ignore[arg-type]
            int(samples.code.max(initial=0)) + 1,
            sequential,
            greedy,
        )

    def arranged(self, values: FloatArray | IntArray, drawn: IntArray) -> FloatArray:
        """Other values of the samples, (Q, n), in the same order."""
        return np.take_along_axis(values[:, drawn], self.number, -1).astype(float)

    def cost(self, last: IntArray) -> tuple[FloatArray, FloatArray]:
        """Tokens and steps where the search ends with the arrival at position ``last``, (Q, S).

        What still runs then has run as long, less a unit where its turn in that step was still to come.
        """
        end = np.take_along_axis(self.over, last[..., None], -1)
        steps = end[..., 0].astype(float)
        if self.sequential:
            return steps, steps
        number = np.take_along_axis(self.number, last[..., None], -1)
        running = np.arange(self.over.shape[-1]) > last[..., None]
        ran = np.where(running, np.maximum(0, end - (self.number > number)), self.over)
        return ran.sum(-1).astype(float), steps


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


def _spoken(arrivals: Arrivals, leader: _Leader) -> FloatArray:
    """Whether the trajectory that speaks for the leading answer is right: the first finished one, else the first."""
    having = arrivals.code == leader.code[..., None]
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
    return (_spoken(arrivals, leader), *arrivals.cost(_all(arrivals)), leader.confidence)


def adaptive(arrivals: Arrivals, rule: Rule, sure: float) -> Result:
    """The vote that stops when the rule is so sure of its outcome."""
    q, s, k = arrivals.code.shape
    rows = q * s
    code, parsed = arrivals.code.reshape(rows, k), arrivals.parsed.reshape(rows, k)
    count = np.zeros((rows, arrivals.answers), dtype=np.int16)
    read = np.zeros((rows, arrivals.answers), dtype=bool)
    last = np.full(rows, k - 1)
    open_ = np.arange(rows)
    for j in range(k - 1):
        given = open_[code[open_, j] >= 0]
        count[given, code[given, j]] += 1
        read[given, code[given, j]] |= parsed[given, j]
        ballots = np.sort(np.where(read[open_], count[open_], 0), axis=1)[:, ::-1]
        ballots = ballots[:, : max(1, int((ballots > 0).sum(1).max(initial=0)))]
        decided = _decided(np.ascontiguousarray(ballots), k - 1 - j, rule, sure)
        last[open_[decided]] = j
        open_ = open_[~decided]
        if not len(open_):
            break
    stopped = last.reshape(q, s)
    leader = _leader(arrivals, None, None, _until(arrivals, stopped))
    return (_spoken(arrivals, leader), *arrivals.cost(stopped), leader.confidence)


def _decided(ballots: npt.NDArray[np.int16], remaining: int, rule: Rule, sure: float) -> BoolArray:
    """Which of many tallies, (R, answers) with counts falling, are decided; each different one is asked once."""
    packed = ballots.view(np.dtype((np.void, ballots.dtype.itemsize * ballots.shape[1])))[:, 0]
    _, where, back = np.unique(packed, return_index=True, return_inverse=True)
    said = [_sure(rule, tuple(c for c in ballots[i].tolist() if c), remaining) >= sure for i in where]
    return np.array(said)[back]


@lru_cache(maxsize=1 << 18)
def _sure(rule: Rule, counts: tuple[int, ...], remaining: int) -> float:
    return SURE[rule](counts, remaining, 0.0) if counts else -1.0


def first(arrivals: Arrivals, of: int) -> Result:
    """The first ``of`` to finish by themselves vote; those that were cut weigh less together than one of them."""
    k = arrivals.code.shape[2]
    own = arrivals.finished & (arrivals.code >= 0)
    reached = np.cumsum(own, axis=-1) >= of
    last = np.where(reached.any(-1), reached.argmax(-1), k - 1)
    weight = np.where(arrivals.finished, 1.0, 1.0 / (k + 1))
    leader = _leader(arrivals, weight, None, _until(arrivals, last))
    return (_spoken(arrivals, leader), *arrivals.cost(last), leader.confidence)


def best_of_n(arrivals: Arrivals, graded: Graded, drawn: IntArray, *, weighted: bool, held: bool) -> Result:
    """The best by a judge, or the answer with the largest sum of scores. What the judge passes ends the search.

    ``held``: the judge only grades, and is not asked where all give the same answer.
    """
    k = arrivals.code.shape[2]
    given = arrivals.code >= 0
    passed = arrivals.arranged(graded.passed, drawn)
    score = arrivals.arranged(graded.score, drawn)
    accepted = given & (passed == 1)
    verified = accepted.any(-1)
    last = np.where(verified, accepted.argmax(-1), k - 1)
    counted = _until(arrivals, last)
    judged = np.ones(given.shape[:2], dtype=bool)
    if held:
        least = np.where(given, arrivals.code, arrivals.answers).min(-1)
        judged = (given & (arrivals.code != least[..., None])).any(-1)
    score = np.where(judged[..., None], score, 0.0)
    weight = np.where(given & judged[..., None], score, 1.0) if weighted else np.ones(given.shape)
    leader = _leader(arrivals, weight, score, counted)
    # worth: not refuted, the score, finished; of equals the first
    worth = np.where(passed == 0, 0.0, 4.0) + 2.0 * np.round(score, _DIGITS) + np.where(arrivals.finished, 1e-13, 0.0)
    best = np.where(given & counted, worth, -1.0).argmax(-1)[..., None]
    any_given = (given & counted).any(-1)
    right = np.where(any_given, np.take_along_axis(arrivals.right, best, -1)[..., 0], 0.0)
    certain = np.take_along_axis(score, best, -1)[..., 0] * leader.confidence
    certain = np.where(verified, 1.0, np.where(judged, certain, leader.confidence))
    if weighted:
        right = np.where(verified, right, _spoken(arrivals, leader))
        certain = np.where(verified, certain, leader.confidence)
    return (right, *arrivals.cost(last), np.where(any_given, certain, 0.0))
