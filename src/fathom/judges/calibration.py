"""What a judge is worth on attempts whose correctness is known: can it tell right from wrong, and at what cost?

The measure is the area under the ROC curve: the probability that a right attempt scores above a wrong one, ties
counting half, so that 0.5 is a coin. *Pooled* compares attempts across questions, which rewards a judge for knowing
easy questions from hard ones. *Within* compares attempts at the same question only, which is all that choosing among
them needs.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fathom.budget import Meter
from fathom.errors import InputError
from fathom.judges.base import Candidate, Spender, Verifier, verdicts_of
from fathom.reasoner import Reasoner
from fathom.records import Problem

__all__ = ["Calibration", "Labelled", "calibrate", "load_labelled", "pairs_in_order"]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A question, attempts at it, and which of them are right."""

    question: str
    candidates: tuple[Candidate, ...]
    correct: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was found of one judge. The AUCs are None where no right attempt could be compared with a wrong one.

    ``unjudged`` counts the attempts without a verdict, which are left out of the AUCs; ``seconds``, ``tokens``
    (generated) and ``prompt_tokens`` are for all verdicts together, ``cost`` in dollars or None where unknown.
    """

    judge: str
    questions: int
    judged: int
    unjudged: int
    auc_pooled: float | None
    auc_within: float | None
    seconds: float
    tokens: int
    prompt_tokens: int
    calls: int
    cost: float | None


def load_labelled(path: Path) -> list[Labelled]:
    """From JSON lines, one question each: ``{"question": …, "candidates": [{"text", "answer", "correct"}, …]}``.

    A candidate may have ``logprobs`` too. Raises InputError, with the line, for a file that is not so.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            items = row["candidates"]
            labels = tuple(item["correct"] for item in items)
            if not isinstance(row["question"], str) or not all(isinstance(label, bool) for label in labels):
                raise TypeError("question must be a text, and correct true or false")
            candidates = tuple(
                Candidate(str(item["text"]), item.get("answer"), logprobs=tuple(map(float, item.get("logprobs", ()))))
                for item in items
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{path}, line {number}: no labelled question ({type(error).__name__}: {error})") from None
        found.append(Labelled(row["question"], candidates, labels))
    if not found:
        raise InputError(f"{path} holds no questions")
    return found


def pairs_in_order(right: Sequence[float], wrong: Sequence[float]) -> float:
    """Of all pairs of a right and a wrong score, how many the right one wins; ties count half. O(n log n)."""
    below = sorted(wrong)
    return sum((bisect_left(below, score) + bisect_right(below, score)) / 2 for score in right)


async def calibrate(name: str, judge: Verifier, data: Sequence[Labelled], model: Reasoner | None = None) -> Calibration:
    """Have every attempt judged, question by question. ``model`` is who judges where the judge asks the run's own."""
    meter = Meter()
    scored: list[tuple[list[float], list[float]]] = []
    unjudged = 0
    for labelled in data:
        session = await model.open(Problem.of(labelled.question), meter) if model is not None else None
        try:
            bound = judge.bind(meter, session) if isinstance(judge, Spender) else judge
            verdicts = await verdicts_of(bound, labelled.question, labelled.candidates)
        finally:
            if session is not None:
                await session.aclose()
        right: list[float] = []
        wrong: list[float] = []
        for verdict, correct in zip(verdicts, labelled.correct, strict=True):
            if verdict.passed is None and verdict.detail.startswith("no verdict"):
                unjudged += 1
            else:
                (right if correct else wrong).append(verdict.score)
        scored.append((right, wrong))
    rights, wrongs = [s for right, _ in scored for s in right], [s for _, wrong in scored for s in wrong]
    pairs = sum(len(right) * len(wrong) for right, wrong in scored)
    spent = meter.spent
    return Calibration(
        judge=name,
        questions=len(data),
        judged=len(rights) + len(wrongs),
        unjudged=unjudged,
        auc_pooled=pairs_in_order(rights, wrongs) / (len(rights) * len(wrongs)) if rights and wrongs else None,
        auc_within=sum(pairs_in_order(*pair) for pair in scored) / pairs if pairs else None,
        seconds=spent.seconds,
        tokens=spent.tokens,
        prompt_tokens=spent.prompt_tokens,
        calls=spent.calls,
        cost=spent.cost,
    )
