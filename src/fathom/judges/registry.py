"""Judges and verifiers by the names that specs use: ``tests``, ``regex(pattern="…")``, ``exact(reference=42)``."""

from __future__ import annotations

from typing import Any

from fathom.errors import UsageError
from fathom.judges.base import Verifier
from fathom.specs import Registry, Spec, option

__all__ = ["JUDGES", "judge_option", "make_judge"]

_MODULES = (
    "agreement",
    "arithmetic",
    "exact",
    "function",
    "json_schema",
    "llm",
    "logprob",
    "prm",
    "regex",
    "self_certainty",
    "unit_tests",
    "value",
)

JUDGES: Registry[Verifier] = Registry("judge", [f"fathom.judges.{name}" for name in _MODULES])
"""Every judge by name; the modules fill it."""


def make_judge(value: Any) -> Verifier | None:
    """A judge from a spec, a spec string, or a Python callable; a judge and None are taken as they are."""
    if value is None or isinstance(value, Verifier):
        return value
    if isinstance(value, str | Spec):
        return JUDGES.build(value)
    if callable(value):
        return JUDGES.build(Spec("callable", {"function": value}))
    raise UsageError(
        f"a judge is a spec such as 'tests', a function, or an object with a method judge, not {value!r:.80}"
    )


def judge_option(default: Any, help: str) -> Any:
    """An option whose value is a judge."""
    return option(default, help, parse=make_judge)
