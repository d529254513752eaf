"""Exact arithmetic on rational numbers as people and models write them: ``3/4 * (2 + 1)``, ``\\frac{1}{2}``.

A recursive-descent parser over `fractions.Fraction`, with limits on length, nesting and the size of every
intermediate result, so that a hostile ``9^9^9^9`` is refused and not computed. Nothing is ever evaluated as code.
"""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["NotRational", "evaluate", "parse_number"]

_MAX_LENGTH = 400
_MAX_DEPTH = 40
_MAX_BITS = 8192  # of a numerator or denominator
_MAX_EXPONENT = 1000  # of scientific notation

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d*)?|\.\d+"
_TOKEN = re.compile(rf"\s*(?:({_NUMBER})([eE][+-]?\d+)?|(\\[a-zA-Z]+|\*\*|\S))", re.ASCII)
_LONE_NUMBER = re.compile(rf"[+-]?\s*(?:{_NUMBER})(?:[eE][+-]?\d+)?", re.ASCII)
_SYNONYMS = {
    "×": "*", "·": "*", "⋅": "*", "∙": "*", "\\times": "*", "\\cdot": "*", "÷": "/", "\\div": "/", "−": "-", "–": "-",
    "**": "^", "\\dfrac": "\\frac", "\\tfrac": "\\frac", "\\cfrac": "\\frac", "[": "(", "]": ")",
}  # fmt: skip
_SILENT = frozenset({"\\left", "\\right", "\\displaystyle"})


class NotRational(Exception):
    """The text is no rational arithmetic, or too much of it. Never leaves the judges."""


def parse_number(text: str) -> Fraction:
    """The value of a lone decimal number: sign, thousands commas, decimals and exponent allowed. Else NotRational."""
    if len(text) > _MAX_LENGTH or not _LONE_NUMBER.fullmatch(text):
        raise NotRational(text[:80])
    digits, _, exponent = text.replace(",", "").replace(" ", "").lower().partition("e")
    if exponent and (len(exponent) > 6 or abs(int(exponent)) > _MAX_EXPONENT):
        raise NotRational(f"the exponent of {text[:80]} is too large")
    return Fraction(digits) * Fraction(10) ** int(exponent or 0)


def evaluate(text: str) -> Fraction:
    """The exact value of an arithmetic expression, plain or in LaTeX.

    Knows + - * / ^, their usual signs, brackets, ``\\frac``, percentages (a hundredth each) and decimal numbers.
    Products need a sign, but for a bracket: ``2(3+1)`` is 8. Raises NotRational for anything else, for a division by
    zero, and for what exceeds the limits of this module.
    """
    if len(text) > _MAX_LENGTH:
        raise NotRational("too long")
    parser = _Parser(text)
    value = parser.sum()
    if parser.next is not None:
        raise NotRational(f"unexpected {parser.next!r}")
    return value


class _Parser:
    """`next` is the token to come: a Fraction, a sign, or None at the end."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.finditer(text.rstrip())
        self._depth = 0
        self.next: Fraction | str | None = None
        self._advance()

    def _advance(self) -> None:
        for match in self._tokens:
            number, exponent, sign = match.groups()
            if sign in _SILENT:
                continue
            self.next = parse_number(number + (exponent or "")) if number else _SYNONYMS.get(sign, sign)
            return
        self.next = None

    def _take(self, sign: str) -> bool:
        if self.next != sign or isinstance(self.next, Fraction):
            return False
        self._advance()
        return True

    def sum(self) -> Fraction:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise NotRational("nested too deep")
        value = self._product()
        while True:
            if self._take("+"):
                value = _checked(value + self._product())
            elif self._take("-"):
                value = _checked(value - self._product())
            else:
                self._depth -= 1
                return value

    def _product(self) -> Fraction:
        value = self._signed()
        while True:
            if self._take("*") or self.next == "(":
                value = _checked(value * self._signed())
            elif self._take("/"):
                value = _quotient(value, self._signed())
            else:
                return value

    def _signed(self) -> Fraction:
        negative = False
        while self.next in ("+", "-"):
            negative ^= self.next == "-"
            self._advance()
        value = self._power()
        return -value if negative else value

    def _power(self) -> Fraction:
        base = self._atom()
        if not self._take("^"):
            return base
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise NotRational("nested too deep")
        exponent = self._signed()  # to the right: 2^3^2 is 2^9
        self._depth -= 1
        return _raised(base, exponent)

    def _atom(self) -> Fraction:
        if isinstance(self.next, Fraction):
            value = self.next
            self._advance()
        elif self._take("("):
            value = self._closed_by(")")
        elif self._take("{"):
            value = self._closed_by("}")
        elif self._take("\\frac"):
            value = _quotient(*self._fraction_parts())
        else:
            raise NotRational(f"unexpected {self.next!r}")
        while self._take("%") or self._take("\\%"):
            value /= 100
        return value

    def _closed_by(self, bracket: str) -> Fraction:
        value = self.sum()
        if not self._take(bracket):
            raise NotRational(f"missing {bracket!r}")
        return value

    def _fraction_parts(self) -> tuple[Fraction, Fraction]:
        """Two groups in braces, or the two digits of ``\\frac12``."""
        if self._take("{"):
            above = self._closed_by("}")
            if self._take("{"):
                return above, self._closed_by("}")
        elif isinstance(self.next, Fraction) and self.next.denominator == 1 and 10 <= self.next < 100:
            tens, ones = divmod(self.next.numerator, 10)
            self._advance()
            return Fraction(tens), Fraction(ones)
        raise NotRational("\\frac needs two arguments")


def _checked(value: Fraction) -> Fraction:
    if value.numerator.bit_length() > _MAX_BITS or value.denominator.bit_length() > _MAX_BITS:
        raise NotRational("too large")
    return value


def _quotient(above: Fraction, below: Fraction) -> Fraction:
    if below == 0:
        raise NotRational("division by zero")
    return _checked(above / below)


def _raised(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise NotRational("a root, not a rational")
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) * max(1, size - 1) > _MAX_BITS and abs(base) != 1 and base != 0:
        raise NotRational("too large")
    if base == 0 and exponent < 0:
        raise NotRational("division by zero")
    if abs(base) == 1:
        return base if exponent % 2 else Fraction(1)
    return base ** int(exponent) if base else Fraction(0 if exponent else 1)
