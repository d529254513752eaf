"""Attempts at a dataset by a model, labelled right or wrong by the dataset's own scorer: what judges are tried on."""

from __future__ import annotations

from fathom.budget import Budget
from fathom.judges.base import Candidate
from fathom.judges.calibration import Labelled
from fathom.lab.datasets.base import Dataset, Question
from fathom.reasoner import Capability, Reasoner
from fathom.records import Problem
from fathom.run import Run
from fathom.search import BestOfN, Vote

__all__ = ["labelled_attempts"]


async def labelled_attempts(
    model: Reasoner, dataset: Dataset, attempts: int, *, depth: int | None = None, seed: int = 0
) -> list[Labelled]:
    """So many samples of each question, of ``depth`` units at most, those without an answer left out.

    They have log-probabilities where the model tells them. Raises what running the model raises.
    """
    return [
        await _attempted(model, question, attempts, depth, seed + attempts * number)
        for number, question in enumerate(dataset.questions)
    ]


async def _attempted(model: Reasoner, question: Question, attempts: int, depth: int | None, seed: int) -> Labelled:
    told = Capability.LOGPROBS in model.capabilities
    strategy = BestOfN(width=attempts) if told else Vote(width=attempts, stop="never")
    result = await Run(model, Problem.of(question.prompt), strategy, Budget(depth=depth), seed=seed).finish()
    candidates = tuple(
        Candidate(t.text, t.answer, t.finished, t.logprobs) for t in result.trajectories if t.answer is not None
    )
    correct = [await question.score(candidate.answer or "") == 1.0 for candidate in candidates]
    return Labelled(question.prompt, candidates, tuple(correct))
