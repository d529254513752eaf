"""Blocks of code in outputs, and what is whole of code that was cut."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.answers import blocks_of, code_block, whole_statements

PROGRAM = '''import re


def shout(words, mark="!"):
    """Each of the words, loudly.

    >>> shout(["a"])
    ['A!']
    """
    found = []
    for word in words:
        if re.match(r"\\w+", word):
            found.append(
                word.upper() + mark,
            )
    return found


print(shout(["so", "be", "it"]))
'''


def test_blocks_are_told_with_their_languages_and_the_cut_one_with_its_text() -> None:
    text = "First:\n```bash\npip\n```\nthen\n```Python\nx = 1\n"
    found = blocks_of(text)
    assert found.closed == (("bash", "pip\n"),)
    assert found.cut == ("python", "x = 1\n")
    assert found.open == "```Python\nx = 1\n"
    assert blocks_of("none").cut is None
    assert blocks_of("```").cut == ("", "")


def test_python_is_preferred_and_the_last_of_it_counts() -> None:
    assert code_block("```python\na\n```\n```py\nb\n```\n```text\nc\n```") == "b\n"
    assert code_block("```\na\n```\n```text\nc\n```") == "c\n"
    assert code_block("```python\n \n```") is None


@given(st.integers(0, len(PROGRAM)))
def test_of_a_program_that_is_cut_anywhere_a_beginning_is_left(at: int) -> None:
    cut = PROGRAM[:at]
    left = whole_statements(cut)
    assert cut.startswith(left)
    if left != cut:
        ast.parse(left)
        assert 2 * len(left.split("\n")) >= len(cut.split("\n"))


@pytest.mark.parametrize("end", ['print(shout(["so', "print(shout(", 'print("""so', "if shout([]):", "x = ", "for"])
def test_a_statement_that_was_cut_goes_and_what_is_before_it_stays(end: str) -> None:
    body = PROGRAM.partition("print(")[0]
    assert whole_statements(body + end).rstrip() == body.rstrip()


@pytest.mark.parametrize(
    "code",
    [
        "x = 1\n",
        "def f(:\n    return 1\n\n\nf()\n",
        "(" * 15_000,
        "-" * 15_000 + "1",
        "\0",
        "[" * 50_000,
        "a\n" * 30_000,
    ],
)
def test_what_is_whole_wrong_from_its_beginning_or_hostile_stays_as_it_is(code: str) -> None:
    assert whole_statements(code) == code


def test_reading_code_warns_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    assert whole_statements('x = "\\d"\ny = (') == 'x = "\\d"'
    assert not recwarn.list
