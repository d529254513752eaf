"""The verifier ``arithmetic``: recomputes the equations that a chain of thought writes down, and counts the right ones.

Wrong sums are the commonest fault in the arithmetic of small models, and the cheapest to find: every ``a op b = c`` of
numbers is checked in exact rational arithmetic (see `rational`); a rounded result counts where its digits are right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from typing import ClassVar

from fathom.answers.rational import NotRational, evaluate
from fathom.judges.base import Candidate, EachVerifier, Verdict
from fathom.judges.registry import JUDGES

__all__ = ["Arithmetic", "equations"]

_MAX_TEXT = 200_000
_MAX_EQUATIONS = 1000  # or what might be one
_SIDE = re.compile(r"(?:[\d.,\s+\-*/^()×·÷−%$]|\\(?:times|cdot|div|left|right|[dt]?frac|%|\$)|[{}])*", re.ASCII)
_COMMANDS = frozenset({"times", "cdot", "div", "left", "right", "frac", "dfrac", "tfrac"})
_FOREIGN = re.compile(r"\\?[A-Za-z_]+|[:;?!|=<>&#\"'`~]")
_BREAK = re.compile(r"[,;.]\s+(?=\D*\d)")  # between sentences and between items of a list
_ENUMERATION = re.compile(r"^\s*[.,)\]]*\s*(?:\d+[.)]\s+(?=[\d($\\-])|[-*•]\s+)?")
_EQUALS = re.compile(r"=|≈|\\approx")
_OPERATION = re.compile(r"[\d)}%]\s*(?:[+\-*/^×·÷−]|\\times|\\cdot|\\div)\s*[\d($\\{-]|frac", re.ASCII)


@JUDGES.register("arithmetic")
@dataclass(frozen=True)
class Arithmetic(EachVerifier):
    """Recomputes the equations in the reasoning.

    The score is the share of equations that hold; `passed` is whether all do, and there is at least one. Equations
    with letters in them are left alone.
    """

    name: ClassVar[str] = "arithmetic"

    async def verdict(self, problem: str, candidate: Candidate) -> Verdict:
        found = list(equations(candidate.text))
        if not found:
            return Verdict(0.0, None, "no equations of numbers in the reasoning")
        wrong = [text for text, holds in found if not holds]
        detail = f"{len(found) - len(wrong)} of {len(found)} equations hold" + (
            f"; not {wrong[0]:.100}" if wrong else ""
        )
        return Verdict(1 - len(wrong) / len(found), not wrong, detail)


def equations(text: str) -> Iterator[tuple[str, bool]]:
    """The equations between numbers in a text, each with whether it holds. ``2 + 3 = 5 = 10 / 2`` are two of them."""
    pairs = (pair for line in text[-_MAX_TEXT:].splitlines() for pair in pairwise(_EQUALS.split(line)))
    for before, after in islice(pairs, _MAX_EQUATIONS):
        left, right = _tail(before), _head(after)
        if _OPERATION.search(left) or _OPERATION.search(right):
            holds = _holds(left, right)
            if holds is not None:
                yield f"{left} = {right}", holds


def _head(text: str) -> str:
    """The arithmetic that a text starts with."""
    match = _SIDE.match(_BREAK.split(text[:400], maxsplit=1)[0])
    found = match.group() if match else ""
    if re.match(r"[A-Za-z_]", text[len(found) :]) and not found.endswith((" ", "$")):
        return ""  # 3x: the number belongs to a symbol
    return found.strip(" ,$*").rstrip(".\\ ,$*")


def _tail(text: str) -> str:
    """The arithmetic that a text ends with."""
    start = 0
    text = _BREAK.split(text[-400:])[-1]
    for word in _FOREIGN.finditer(text):
        if word.group().lstrip("\\") not in _COMMANDS:
            start = word.end()
    found = text[start:]
    if start and text[start - 1].isalnum() and found[:1] in "+-*/^":
        return ""  # x + 3: the number belongs to a symbol
    return _ENUMERATION.sub("", found).strip(" ,$*")


def _holds(left: str, right: str) -> bool | None:
    """Whether both sides are equal, a rounded side to the digits it shows; None where one is no arithmetic."""
    if any("%" in side and re.search(r"[+-]", side) for side in (left, right)):
        return None  # 100 - 20% means 80 to most people, and 99.8 to some
    try:
        values = evaluate(left.replace("$", "")), evaluate(right.replace("$", ""))
    except NotRational:
        return None
    slack = max(_rounding(left), _rounding(right))
    return abs(values[0] - values[1]) <= slack


def _rounding(side: str) -> Fraction:
    """By how much a lone decimal may be off for having been rounded: half a unit of its last digit, else 0."""
    decimal = re.fullmatch(r"-?[\d,]*\.(\d+)(\s*\\?%)?", side.strip())
    return Fraction(1, 2 * 10 ** (len(decimal.group(1)) + 2 * bool(decimal.group(2)))) if decimal else Fraction(0)
