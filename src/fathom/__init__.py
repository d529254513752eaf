"""Fathom: inference-time scaling. Better answers from a fixed model, under an explicit budget.

>>> import fathom
>>> result = fathom.solve("embedded", "What is 17 * 23?", within="5s")
>>> result.answer, result.confidence, result.receipt.spent.tokens

Names are imported when they are first used (as in Scientific Python's SPEC 1), so that importing Fathom costs next to
nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fathom.api import asolve, open, prepare_run, solve, stream
    from fathom.budget import Budget, Meter
    from fathom.errors import EngineError, FathomError, LimitError, NoAnswer, UsageError
    from fathom.records import (
        Candidate,
        Message,
        Problem,
        Receipt,
        Result,
        Spent,
        StopReason,
        ToolCall,
        Tools,
        Trajectory,
        Update,
    )
    from fathom.run import Run
    from fathom.search import BestOfN, Direct, Strategy, Vote

__version__ = "0.1.0"

_HOMES = {
    "fathom.api": ("asolve", "open", "prepare_run", "solve", "stream"),
    "fathom.budget": ("Budget", "Meter"),
    "fathom.errors": ("EngineError", "FathomError", "LimitError", "NoAnswer", "UsageError"),
    "fathom.records": (
        "Candidate",
        "Message",
        "Problem",
        "Receipt",
        "Result",
        "Spent",
        "StopReason",
        "ToolCall",
        "Tools",
        "Trajectory",
        "Update",
    ),
    "fathom.run": ("Run",),
    "fathom.search": ("BestOfN", "Direct", "Strategy", "Vote"),
}

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
    "ToolCall",
    "Tools",
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


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            found = globals()[name] = getattr(importlib.import_module(home), name)
            return found
    raise AttributeError(f"module 'fathom' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
