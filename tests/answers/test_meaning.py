"""Answers that mean the same share a key, others do not; by law where there is one, by example elsewhere."""

from __future__ import annotations

import random
import threading
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.answers import Canonical, at_once, canonical, expressions, same

fractions = st.fractions(min_value=-(10**9), max_value=10**9, max_denominator=10**4)


@given(st.text(max_size=60))
def test_any_text_has_a_key_and_canonical_is_idempotent(text: str) -> None:
    once = canonical(text)
    assert canonical(once.text).key == once.key
    assert canonical(text) == once


@given(st.lists(st.sampled_from("0123456789+-*/^()x.,%={}\\ $\\frac\\sqrtπ"), max_size=14).map("".join))
@settings(max_examples=60)
def test_mathematical_noise_is_read_or_refused(text: str) -> None:
    once = canonical(text)
    assert canonical(once.text).key == once.key


@given(fractions)
def test_a_number_is_the_same_in_every_format(value: Fraction) -> None:
    written = [f"{value.numerator}/{value.denominator}", f"\\frac{{{value.numerator}}}{{{value.denominator}}}"]
    written += [f"${value.numerator}/{value.denominator}$", f"x = {value.numerator}/{value.denominator}"]
    if value > 0:
        whole, rest = divmod(value, 1)
        if whole and rest:
            written += [f"{whole} {rest.numerator}/{rest.denominator}"]
            written += [f"{whole}\\frac{{{rest.numerator}}}{{{rest.denominator}}}"]
    assert {canonical(text).key for text in written} == {f"n:{value}"}


@given(st.integers(-(10**12), 10**12), st.integers(0, 4))
def test_a_decimal_is_the_same_in_every_format(digits: int, places: int) -> None:
    value = Fraction(digits, 10**places)
    plain = f"{digits / 10**places:.{places}f}"
    sign, size = ("-", plain[1:]) if plain.startswith("-") else ("", plain)
    whole, _, decimals = size.partition(".")
    commas = f"{sign}{int(whole):,}" + (f".{decimals}" if decimals else "")
    written = [plain, commas, f"{plain} apples", f"{plain} km/h", f"**{plain}**", f"${plain}$", f"{plain}."]
    written += [f"{plain}e0", f"\\text{{{plain}}}", f"{sign}${size}", f"{sign}\\${size}", f"{Fraction(value * 100)}%"]
    assert {canonical(text).key for text in written} == {f"n:{value}"}, written


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=6), st.randoms())
def test_sets_have_no_order_and_tuples_have(items: list[int], rng: random.Random) -> None:
    shuffled = rng.sample(items, len(items))
    as_set = [f"{{{', '.join(map(str, shuffled))}}}", f"\\{{{','.join(map(str, items))}\\}}"]
    as_set.append(" and ".join(map(str, items)))
    assert len({canonical(text).key for text in as_set}) == 1
    ordered = same(f"({', '.join(map(str, items))})", f"({','.join(map(str, shuffled))})")
    assert ordered == (items == shuffled)


@given(
    st.lists(st.sampled_from(["1/2", "0.5", "50%", "1", "yes", "True", "B", "(B)", "the cat", "Cat!", "x+1", "1+x"]))
)
def test_sameness_is_an_equivalence(answers: list[str]) -> None:
    for a in answers:
        assert same(a, a)
        for b in answers:
            assert same(a, b) == same(b, a)
            for c in answers:
                if same(a, b) and same(b, c):
                    assert same(a, c)


@pytest.mark.parametrize(
    "alike",
    [
        ["\\sqrt{8}", "2\\sqrt{2}", "2*sqrt(2)", "2√2", "\\frac{4}{\\sqrt 2}"],
        ["(x+1)^2", "x^2+2x+1", "x**2 + 2*x + 1", "y = (x+1)(x+1)"],
        ["\\sin^2 x + \\cos^2 x", "1", "100%"],
        ["e^{i\\pi}", "-1"],
        ["\\frac{1}{2}x", "0.5x", "x/2"],
        ["2x + 3y = 6", "4x + 6y = 12"],
        ["x > 3", "3 < x", "(3, \\infty)"],
        ["3 \\le x < 5", "[3, 5)"],
        ["2 \\pm \\sqrt{3}", "2 + \\sqrt 3, 2 - \\sqrt 3"],
        ["x = 2 or x = 3", "{3, 2}", "2, 3"],
        ["\\begin{pmatrix} 1 & 4 \\\\ 3 & 4 \\end{pmatrix}", "\\begin{pmatrix} 1 & 2^2 \\\\ 3 & 2+2 \\end{pmatrix}"],
        ["(B)", "B", "B.", "b)", "option b", "\\text{(B)}", "B) Paris", "The answer is B"],
        ["yes", "Yes.", "TRUE"],
        ["The quick, brown fox!", "quick brown fox"],
        ["5 million dollars", "$5,000,000", "5e6"],
        ["90^\\circ", "90 degrees", "90°", "90"],
        ["1.5 × 10³", "1500", "1 500"],
        ["3½", "3.5"],
        ["9.8 m/s^2", "9.8"],
        ["\\emptyset", "{}", "no solution"],
        ["5!", "120"],
        [
            "98 \\times 57 = 5586",
            "5586",
            "x = 98 * 57 = 5586",
            "98 \\cdot (50 + 7) = 4900 + 686 = 5586",
            "1 + 1 = 5586",
        ],
    ],
)
def test_these_mean_the_same(alike: list[str]) -> None:
    found = [canonical(text) for text in alike]
    assert len({answer.key for answer in found}) == 1, found
    assert all(answer.parsed for answer in found)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("50", "50%"), ("3:2", "1.5"), ("", "0"), ("(1, 2)", "(2, 1)"), ("(1, 2)", "[1, 2]"), ("x^2", "x^3"),
        ("x", "y"),
        ("yes", "no"), ("A", "B"), ("12/25/2024", "12/25/2025"), ("10-15", "-5"), ("x < 3", "x <= 3"), ("cat", "dog"),
        ("1.41421356", "\\sqrt 2"), ("2x + 3y = 6", "2x + 3y = 7"),
        ("98 * 57 = 5580", "98 * 57 = 5581"), ("\\sqrt 8 = 2.8", "\\sqrt 8 = 2.9"), ("2 + 3", "2 + 3 = 6"),
    ],
)  # fmt: skip
def test_these_differ(a: str, b: str) -> None:
    assert not same(a, b)


@pytest.mark.parametrize(
    ("text", "kind", "key"),
    [
        ("1/2", "fraction", "n:1/2"), ("0.5", "number", "n:1/2"), ("50%", "percent", "n:1/2"), ("B", "choice", "c:B"),
        ("no", "boolean", "b:0"), ("{1, 2}", "set", "s:n:1;n:2"), ("Paris", "text", "t:paris"),
    ],
)  # fmt: skip
def test_kinds(text: str, kind: str, key: str) -> None:
    answer = canonical(text)
    assert (answer.kind, answer.key, answer.parsed) == (kind, key, True)


@given(st.text(max_size=60) | fractions.map(str) | fractions.map("x = {}".format))
def test_what_is_read_at_once_needs_no_algebra_and_names_numbers_alike(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expressions._reader, "call", pytest.fail)
        found = at_once(text)
    if found.key.startswith("n:"):
        assert found.key == canonical(text).key


HOSTILE = [
    "9**9**9**9", "9^{9^{9^9}}", "((9^99)^99)^99", "2^{2000}^x", "e^{e^{e^{e^{e^{9}}}}}", "10^{10^{10}}",
    "(x+y+z+w)^{2000}", "9^{99}^{99}", "x^" * 100 + "x", "9999999!", "\\binom{1000000}{500000}",
    "\\prod_{i=1}^{10^9} i",
    "\\int " * 50, "\\sum_{i=1}^{99999999} \\sin(i)", "\\frac{" * 500, "{" * 1000, "(" * 300 + "x" + ")" * 300,
    "\\sqrt{" * 60 + "x", "1" * 10**6, "a" * 10**6, "x" * 250 + "+1", "1+" * 140 + "x", "%" * 300, "$" * 2000,
    "\\text{" * 300, "(" * 2000,
    "\x00\ud800", "__import__('os').system('true')", "\\input{/etc/passwd}", "1," * 900, "± " * 500, "<" * 1999,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_answers_return_soon(text: str) -> None:
    began = time.perf_counter()
    answer = canonical(text)
    assert time.perf_counter() - began < 60  # far above what it takes, far below what computing them would
    assert isinstance(answer, Canonical)


@pytest.mark.parametrize(
    "text", ["9**9**9**9", "\\frac{" * 30, "1/0", "I don't know", "", "cannot be determined", "?!"]
)
def test_what_cannot_be_read_is_not_parsed(text: str) -> None:
    assert not canonical(text).parsed


def test_the_kind_asked_for_decides_what_is_parsed() -> None:
    assert canonical("Paris").parsed
    assert not canonical("Paris", "number").parsed
    assert canonical("50%", "number").parsed
    assert not canonical("7", "choice").parsed
    assert canonical("7", "text").parsed


def test_expressions_are_read_in_threads_too() -> None:
    n = random.randint(2, 10**6)
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda form=form: found.append(canonical(form).key))
        for form in (f"{n}x+{n}", f"{n}(x+1)", f"x*{n}+{n}")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert found[0].startswith("e:")
