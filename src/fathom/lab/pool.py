"""A sweep's trajectories at one depth as arrays: Q questions by n samples, and the greedy one of each.

Everything that is scored offline is scored from here. Answers are numbered per question by their meaning, so that two
samples of a question gave the same answer where their numbers are equal.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fathom.errors import InputError, UsageError
from fathom.judges.base import Verdict
from fathom.lab.judging import FREE, UNKNOWN, VerdictCost, verdict_cost
from fathom.lab.keeping import SAMPLES
from fathom.lab.records import GREEDY, UNLIMITED, SweepInfo, Verdicts
from fathom.lab.statistics import FloatArray, IntArray
from fathom.lab.store import Store
from fathom.records import Trajectory

__all__ = ["Columns", "Graded", "Pool", "load", "load_all"]

BoolArray = npt.NDArray[np.bool_]
TextArray = npt.NDArray[np.object_]

_NUMBERS = ("score", "steps", "conclusion", "seconds", "logprob", "value", "valid", "parsed", "finished")
_READ = ("question", "depth", "sample", *_NUMBERS, "prompt_tokens", "key", "reason", "answer")


@dataclass(frozen=True, eq=False)
class Columns:
    """What is known of trajectories, as arrays of one shape: (Q, n) for samples, (Q, 1) for the greedy ones.

    ``code`` numbers the answer within its question, -1 where none was given. ``score`` is the dataset's (NaN: not
    scored). ``steps`` are units of depth, ``conclusion`` the tokens of the conclusion, ``seconds`` the time until it
    was over, ``logprob`` the mean per token, ``value`` the model's own estimate, and ``valid`` 1 or 0 where it
    knows for certain whether the answer is right (NaN: unknown).
    """

    code: IntArray
    score: FloatArray
    steps: IntArray
    conclusion: IntArray
    seconds: FloatArray
    logprob: FloatArray
    value: FloatArray
    valid: FloatArray
    parsed: BoolArray
    finished: BoolArray
    answer: TextArray
    reason: TextArray

    @property
    def right(self) -> FloatArray:
        """1 where the answer is right, 0 where it is not or was not given."""
        return (self.score >= 1).astype(float)

    @property
    def tokens(self) -> IntArray:
        """Units generated in all, the conclusion's included; also the time at which it is over, in steps."""
        return self.steps + self.conclusion

    @property
    def concluded(self) -> BoolArray:
        """Whether it was made to state its answer, because it had not by itself."""
        return ~self.finished | (self.conclusion > 0)

    def rows(self, at: Any) -> Columns:
        """The same of some questions only."""
        return Columns(**{f.name: getattr(self, f.name)[at] for f in fields(self)})

    def beside(self, others: Columns) -> Columns:
        """These trajectories of each question, and behind them the others."""
        both = {f.name: (getattr(self, f.name), getattr(others, f.name)) for f in fields(self)}
        return Columns(**{name: np.concatenate(columns, axis=1) for name, columns in both.items()})


@dataclass(frozen=True, eq=False)
class Graded:
    """A judge's verdicts on samples and, behind them, on the greedy one, (Q, n + 1): ``score`` (NaN: none, or one that
    says nothing), ``passed`` 1 or 0, -1 where it only grades.

    ``each`` is what one verdict costs. ``greedy``: whether all greedy ones were judged; older sweeps had only their
    samples judged.
    """

    score: FloatArray
    passed: IntArray
    each: VerdictCost = UNKNOWN
    greedy: bool = True


@dataclass(frozen=True, eq=False)
class Pool:
    """All trajectories of one sweep at one depth.

    ``depth`` is the limit they were drawn under (None: the model's own). ``keys[q]`` are the meanings behind the codes
    of question q. ``prompt_tokens``, (Q,), is the length of each prompt. ``left_out`` counts the questions that have
    not all their samples yet, and are not here.
    """

    sweep: SweepInfo
    depth: int | None
    questions: tuple[int, ...]
    samples: Columns
    greedy: Columns
    keys: tuple[tuple[str, ...], ...]
    prompt_tokens: IntArray
    verdicts: Mapping[str, Graded] = field(default_factory=dict)
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def width(self) -> int:
        """Samples a question, n."""
        return int(self.samples.code.shape[1])

    @property
    def parameters(self) -> float:
        """The model's parameters, 0 where unknown."""
        return float(self.sweep.facts.get("parameters", 0))

    def some(self, at: IntArray | Sequence[int]) -> Pool:
        """The pool of some of its questions, by their positions: a half to tune on, say."""
        index = np.asarray(at, dtype=np.int64)
        graded = {judge: replace(g, score=g.score[index], passed=g.passed[index]) for judge, g in self.verdicts.items()}
        return replace(
            self,
            questions=tuple(self.questions[i] for i in index),
            samples=self.samples.rows(index),
            greedy=self.greedy.rows(index),
            keys=tuple(self.keys[i] for i in index),
            prompt_tokens=self.prompt_tokens[index],
            verdicts=graded,
        )

    def halves(self, seed: int = 0) -> tuple[Pool, Pool]:
        """Two halves of its questions, at random: thresholds are tuned on one and reported on the other."""
        order = np.random.default_rng(seed).permutation(len(self))
        return self.some(np.sort(order[: len(self) // 2])), self.some(np.sort(order[len(self) // 2 :]))

    def trajectory(self, q: int, sample: int, id: int) -> Trajectory:
        """The trajectory at position ``q`` as a search is told of it, as number ``id``; ``GREEDY`` is a sample too."""
        columns, at = (self.greedy, 0) if sample == GREEDY else (self.samples, sample)
        code, logprob = columns.code[q, at], columns.logprob[q, at]
        value, valid = columns.value[q, at], columns.valid[q, at]
        return Trajectory(
            id,
            depth=int(columns.steps[q, at]),
            answer=columns.answer[q, at],
            key=self.keys[q][code] if code >= 0 else "",
            parsed=bool(columns.parsed[q, at]),
            finished=bool(columns.finished[q, at]),
            reason=columns.reason[q, at],
            logprobs=() if math.isnan(logprob) else (float(logprob),),
            value=None if math.isnan(value) else float(value),
            valid=None if math.isnan(valid) else bool(valid),
        )

    def graded(self, judge: str, *, greedy: bool = False) -> Graded:
        """The verdicts of a judge, by its spec. ``logprob`` is known where log-probabilities are.

        Raises UsageError where the judge was not asked; with ``greedy`` also where not all greedy ones were judged.
        """
        found = self.verdicts.get(judge)
        if found is None and judge == "logprob" and np.isfinite(self.samples.logprob).all():
            score = np.minimum(1.0, np.exp(self.samples.beside(self.greedy).logprob))
            found = Graded(score, np.full(score.shape, -1), FREE)
        if found is None or (greedy and not found.greedy):
            what = "no verdicts" if found is None else "no verdicts on greedy answers"
            raise UsageError(
                f"the sweep {self.sweep.name!r} holds {what} of {judge}; have it judged with: "
                f"fathom sweep … --judge {judge!r}"
            )
        return found

    def verdict(self, judge: str, q: int, sample: int) -> Verdict:
        """The judge's word on one sample; ``GREEDY`` is one too. Raises what ``graded`` raises."""
        graded = self.graded(judge, greedy=sample == GREEDY)
        score, passed = float(graded.score[q, sample]), int(graded.passed[q, sample])
        if math.isnan(score):
            return Verdict.failed("it was not judged")
        return Verdict(score, None if passed < 0 else bool(passed))


def load_all(directory: Path | str) -> list[Pool]:
    """The pools of every sweep and depth in a store. Raises InputError where there is no store or it is empty."""
    with Store(directory) as store:
        found = [pool for sweep in store.sweeps() for pool in load(store, sweep)]
    if not found:
        raise InputError(f"{directory} holds no question yet that has all its samples")
    return found


def load(store: Store, sweep: SweepInfo, width: int | None = None) -> Iterator[Pool]:
    """The pools of a sweep, one for each depth, shallowest first, the model's own limit last.

    Questions with fewer than ``width`` samples (default: the most that any has), or without a greedy one where others
    have one, are left out.
    """
    by_depth: dict[int, dict[int, dict[int, tuple[Any, ...]]]] = {}
    for question, depth, sample, *rest in store.columns(sweep.id, _READ):
        by_depth.setdefault(depth, {}).setdefault(question, {})[sample] = tuple(rest)
    verdicts = list(store.verdicts(sweep.id))
    asked = len(store.questions(sweep.id))
    if sweep.facts.get("unit") != "token" and "unit_flops" not in sweep.facts:  # as older sweeps measured it
        steps = sum(row[_READ.index("steps")] for row in store.columns(sweep.id, _READ))
        each = store.spent(sweep.id, SAMPLES).flops / max(1, steps)
        sweep = replace(sweep, facts={**sweep.facts, "unit_flops": each})
    costs = {
        judge: verdict_cost(judge, (v.spent for v in verdicts if v.judge == judge))
        for judge in sorted({v.judge for v in verdicts})
    }
    for depth in sorted(by_depth, key=lambda d: math.inf if d == UNLIMITED else d):
        rows = by_depth[depth]
        n = width or max((max(of) + 1 for of in rows.values()), default=0)
        wanted = {GREEDY, *range(n)}
        whole = {question: of for question, of in sorted(rows.items()) if wanted <= of.keys()}
        if n == 0 or not whole:
            continue
        pool = _pool(sweep, depth, n, whole, left_out=asked - len(whole))
        given = [v for v in verdicts if v.depth == depth]
        yield replace(pool, verdicts=_graded(pool, given, costs)) if given else pool


def _pool(
    sweep: SweepInfo, depth: int, n: int, whole: Mapping[int, Mapping[int, tuple[Any, ...]]], left_out: int
) -> Pool:
    keys: list[tuple[str, ...]] = []
    flat: list[list[Any]] = [[] for _ in ("code", *_NUMBERS, "prompt_tokens", "reason", "answer")]
    for of in whole.values():
        codes: dict[str, int] = {}
        for sample in (GREEDY, *range(n)):
            *numbers, key, reason, answer = of[sample]
            code = -1 if answer is None else codes.setdefault(key, len(codes))
            for column, value in zip(flat, (code, *numbers, reason, answer), strict=True):
                column.append(value)
        keys.append(tuple(codes))
    kinds = (np.int64, float, np.int64, np.int64, float, float, float, float, bool, bool, np.int64, object, object)
    arrays = [np.array(c, dtype=kind).reshape(len(whole), n + 1) for c, kind in zip(flat, kinds, strict=True)]
    names = ("code", *_NUMBERS, "prompt_tokens", "reason", "answer")
    table = dict(zip(names, arrays, strict=True))
    prompt_tokens = table.pop("prompt_tokens")[:, 0]
    return Pool(
        sweep=sweep,
        depth=None if depth == UNLIMITED else depth,
        questions=tuple(whole),
        samples=Columns(**{name: column[:, 1:] for name, column in table.items()}),
        greedy=Columns(**{name: column[:, :1] for name, column in table.items()}),
        keys=tuple(keys),
        prompt_tokens=prompt_tokens,
        left_out=left_out,
    )


def _graded(pool: Pool, verdicts: Sequence[Verdicts], costs: Mapping[str, VerdictCost]) -> dict[str, Graded]:
    place = {question: at for at, question in enumerate(pool.questions)}
    found: dict[str, Graded] = {}
    greedy: Counter[str] = Counter()
    for v in verdicts:
        if v.question not in place or not GREEDY <= v.sample < pool.width:
            continue
        if v.judge not in found:
            shape = (len(pool), pool.width + 1)
            found[v.judge] = Graded(np.full(shape, np.nan), np.full(shape, -1), costs[v.judge])
        greedy[v.judge] += v.sample == GREEDY  # the last column is its own
        at = place[v.question], v.sample
        empty = Verdict(v.score, v.passed, v.detail).empty
        found[v.judge].score[at] = np.nan if empty else v.score
        found[v.judge].passed[at] = -1 if v.passed is None else int(v.passed)
    return {judge: replace(graded, greedy=greedy[judge] == len(pool)) for judge, graded in found.items()}
