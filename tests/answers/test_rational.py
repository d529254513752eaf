"""Exact arithmetic against Python's own, on generated expressions; and what must be refused."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.answers.rational import NotRational, evaluate, parse_number

numbers = st.integers(0, 10**6).map(lambda n: (str(n), Fraction(n)))
decimals = st.decimals(0, 10**4, places=3, allow_nan=False).map(lambda d: (str(d), Fraction(str(d))))


def _combined(parts: st.SearchStrategy[tuple[str, Fraction]]) -> st.SearchStrategy[tuple[str, Fraction]]:
    def join(a: tuple[str, Fraction], sign: str, b: tuple[str, Fraction], latex: bool) -> tuple[str, Fraction]:
        if sign == "/" and b[1] == 0:
            sign = "+"
        value = {"+": a[1] + b[1], "-": a[1] - b[1], "*": a[1] * b[1]}.get(sign) if sign != "/" else a[1] / b[1]
        assert value is not None
        if sign == "/" and latex:
            return f"\\frac{{{a[0]}}}{{{b[0]}}}", value
        return f"({a[0]}) {'×' if sign == '*' and latex else sign} ({b[0]})", value

    return st.builds(join, parts, st.sampled_from("+-*/"), parts, st.booleans())


@given(st.recursive(numbers | decimals, _combined, max_leaves=6))
def test_agrees_with_fractions(expression: tuple[str, Fraction]) -> None:
    text, value = expression
    assert evaluate(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * 4", 14),
        ("2^3^2", 512),
        ("-2^2", -4),
        ("2 ** -2", Fraction(1, 4)),
        ("\\frac12", Fraction(1, 2)),
        ("50% * 8", 4),
        ("3(4 + 1)", 15),
        ("1,234.5", Fraction(2469, 2)),
        ("1.5e3", 1500),
        ("\\left(1 + 2\\right) \\cdot 3", 9),
    ],
)
def test_reads_as_people_write(text: str, value: Fraction | int) -> None:
    assert evaluate(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "", "1/0", "9^9^9^9", "9**9**9", "2^0.5", "x + 1", "__import__('os')", "1,23", "(" * 300 + "1" + ")" * 300,
        "(" * 50 + "1" + ")" * 50, "1e999999999", "\\frac" * 50, "2^" * 60 + "2", "1" * 5000, "9" * 300 + "^99",
        "(1", "1)",
    ],
)  # fmt: skip
def test_refuses_quickly(text: str) -> None:
    began = time.perf_counter()
    with pytest.raises(NotRational):
        evaluate(text)
    assert time.perf_counter() - began < 30  # it would take years, were it computed


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=4))
def test_numbers_keep_their_value(number: object) -> None:
    assert parse_number(str(number)) == Fraction(str(number))
