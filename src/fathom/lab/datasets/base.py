"""What a dataset is to the lab: questions in a fixed order, each with a scorer of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fathom.errors import InputError
from fathom.judges.base import Candidate
from fathom.judges.exact import Exact
from fathom.lab.records import Asked

__all__ = ["BadRow", "Dataset", "Question", "Scorer", "exactly", "refuse_bad_rows"]

Scorer = Callable[[str], Awaitable[float]]
"""How right an answer is, in [0, 1], where 1 is right. It never raises on what a model may say."""

SHOWN = 20  # bad rows that an error lists


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its right answer as text where there is one, and what scores an answer to it."""

    name: str
    prompt: str
    reference: str
    score: Scorer = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is no question: its line in the file, counted from 1, and what is wrong with it."""

    line: int
    wrong: str


@dataclass(frozen=True)
class Dataset:
    """Questions in order. ``form`` is the form of answer that they call for; ``skipped`` rows were left out as bad.

    ``close``, where there is one, ends what the scorers run."""

    name: str
    questions: Sequence[Question]
    form: Literal["short", "code"] = "short"
    skipped: tuple[BadRow, ...] = ()
    close: Callable[[], Awaitable[None]] | None = field(default=None, compare=False)

    def asked(self) -> list[Asked]:
        """The questions as a store keeps them."""
        return [Asked(number, q.name, q.prompt, q.reference) for number, q in enumerate(self.questions)]


def exactly(reference: str) -> Scorer:
    """Scores 1 for an answer that means the same as the reference, by the rules of ``fathom.answers``."""
    judge = Exact(reference)

    async def score(answer: str) -> float:
        return (await judge.verdict("", Candidate(answer, answer))).score

    return score


def refuse_bad_rows(where: str, bad: Sequence[BadRow], skip_bad: bool) -> None:
    """Raise InputError that lists the rows that do not parse, unless they are to be skipped."""
    if bad and not skip_bad:
        lines = "\n".join(f"  line {row.line}: {row.wrong}" for row in bad[:SHOWN])
        more = f"\n  and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise InputError(f"{where}: {len(bad)} row(s) are no question (--skip-bad leaves them out):\n{lines}{more}")
