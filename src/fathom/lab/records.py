"""What the lab keeps: the terms of a sweep, its questions, trajectories, how these went, verdicts, and outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fathom.records import Spent

__all__ = ["GREEDY", "UNLIMITED", "Asked", "Board", "Course", "Outcome", "SweepInfo", "Terms", "Verdicts", "Written"]

GREEDY = -1
"""The sample number of a question's greedy trajectory."""
UNLIMITED = -1
"""The depth of trajectories that may think as long as the model's own limit allows."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a sweep was made under: trajectories made under other terms do not belong with it.

    ``model`` is its name, that of a recursive model with the options that it was opened with. ``model_hash`` is the
    sha256 of the model's file where it has one, ``engine`` its name and version; ``sampling`` and ``prompts`` say how
    it was asked. Of a ladder each of them tells all models. The questions themselves are kept, and compared one by one.
    """

    model: str
    model_hash: str
    engine: str
    sampling: str
    prompts: str
    dataset: str
    seed: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as it was asked, and its right answer where the dataset has one."""

    number: int
    name: str
    prompt: str
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """A trajectory as it is kept.

    ``question`` is the question's number, ``depth`` the limit on its reasoning (``UNLIMITED`` for the model's own),
    ``sample`` its number (``GREEDY`` for the greedy one). ``steps`` counts the units of depth that it took (tokens or
    supervision steps) and ``conclusion`` the tokens of its conclusion; ``prompt_tokens`` is the length of its prompt,
    ``seconds`` the time from the start of its run until it was over, with all that ran beside it. ``score`` is the
    dataset's, in [0, 1], 1 for right, None where nothing could be scored. ``logprob`` is the mean over its tokens,
    ``value`` the model's own estimate, ``valid`` what it knows for certain. The other fields are those of
    ``fathom.records.Trajectory``.
    """

    question: int
    depth: int
    sample: int
    key: str
    parsed: bool
    finished: bool
    score: float | None
    steps: int
    conclusion: int = 0
    prompt_tokens: int = 0
    seconds: float = 0.0
    logprob: float | None = None
    value: float | None = None
    valid: bool | None = None
    seed: int = 0
    reason: str = "stop"
    answer: str | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Board:
    """What a trajectory would have answered from ``depth`` on, as ``fathom.recount.Held``, with the dataset's score."""

    depth: int
    answer: str
    valid: bool | None
    score: float


@dataclass(frozen=True, slots=True)
class Course:
    """How one trajectory went: a log-probability per token, or its value after each unit of depth, and its answers in
    order, each where it changed. Log-probabilities are kept to three digits.
    """

    question: int
    depth: int
    sample: int
    logprobs: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    boards: tuple[Board, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdicts:
    """A judge's word on one trajectory.

    ``spent`` is what the verdict took by itself, also where an equal trajectory had been judged before and nothing was
    spent anew; None where that was not noted, in stores of older versions.
    """

    question: int
    depth: int
    sample: int
    judge: str
    score: float
    passed: bool | None = None
    detail: str = ""
    spent: Spent | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a strategy that was run live came to on one question; ``strategy`` and ``budget`` are written as specs."""

    question: int
    strategy: str
    budget: str
    answer: str
    score: float
    confidence: float
    stopped: str
    spent: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SweepInfo:
    """A sweep in a store. ``facts`` are what else is known of it: the model's parameters, its pace, its price."""

    id: int
    name: str
    terms: Terms
    facts: Mapping[str, Any]
