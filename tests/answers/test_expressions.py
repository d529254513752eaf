"""Keys of expressions by law, and the time limit that holds in any thread."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.answers import expressions
from fathom.answers.expressions import expression_key, looks_mathematical


@given(st.integers(1, 30), st.integers(-30, 30), st.integers(-30, 30))
@settings(max_examples=25)
def test_an_expanded_product_has_the_key_of_the_product(a: int, b: int, c: int) -> None:
    product, expanded = f"({a}x + {b})(x + {c})", f"{a}x^2 + {a * c + b}x + {b * c}"
    assert expression_key(product.replace("+ -", "- ")) == expression_key(expanded.replace("+ -", "- ")) is not None
    other = f"{a}x^2 + {a * c + b}x + {b * c + 1}"
    assert expression_key(other.replace("+ -", "- ")) != expression_key(expanded.replace("+ -", "- "))


@given(st.integers(2, 400), st.integers(1, 20))
@settings(max_examples=25)
def test_a_root_has_one_key(n: int, k: int) -> None:
    assert expression_key(f"\\sqrt{{{n * k * k}}}") == expression_key(f"{k}\\sqrt{{{n}}}")


@pytest.mark.parametrize(
    ("text", "is_so"),
    [
        ("x + 1", True),
        ("\\frac{a}{b}", True),
        ("2\\sin x", True),
        ("f(x)", True),
        ("a cat", False),
        ("3 blind mice", False),
    ],
)
def test_what_looks_like_mathematics(text: str, is_so: bool) -> None:
    assert looks_mathematical(text) is is_so


def test_what_takes_too_long_is_given_up_and_the_next_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = expressions._Reader()
    monkeypatch.setattr(expressions, "SECONDS", 0.1)
    stop = time.monotonic() + 120
    ended = []

    def endless() -> str:
        try:
            while time.monotonic() < stop:
                pass
        finally:
            ended.append(time.monotonic())
        return "never"

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        reader.call(endless)
    assert time.monotonic() - began < 60
    monkeypatch.setattr(expressions, "SECONDS", 60)
    word = str(random.random())
    assert reader.call(lambda: word) == word
    while not ended and time.monotonic() < stop:
        time.sleep(0.01)
    assert ended[0] < stop  # the runaway was stopped, and did not run to its end
