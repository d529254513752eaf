"""Fathom: inference-time scaling. Better answers from a fixed model, under an explicit budget.

>>> import fathom
>>> result = fathom.solve("embedded", "What is 17 * 23?", within="5s")
>>> result.answer, result.confidence, result.receipt.spent.tokens
"""

from fathom.api import asolve, open, prepare_run, solve, stream
from fathom.budget import Budget, Meter
from fathom.errors import EngineError, FathomError, LimitError, NoAnswer, UsageError
from fathom.records import Candidate, Message, Problem, Receipt, Result, Spent, StopReason, Trajectory, Update
from fathom.run import Run
from fathom.search import BestOfN, Direct, Strategy, Vote

__version__ = "0.1.0"

__all__ = [
    "BestOfN",
    "Budget",
    "Candidate",
    "Direct",
    "EngineError",
    "FathomError",
    "LimitError",
    "Message",
    "Meter",
    "NoAnswer",
    "Problem",
    "Receipt",
    "Result",
    "Run",
    "Spent",
    "StopReason",
    "Strategy",
    "Trajectory",
    "Update",
    "UsageError",
    "Vote",
    "__version__",
    "asolve",
    "open",
    "prepare_run",
    "solve",
    "stream",
]
