"""Where outputs state their answers; and that hostile ones are scanned in linear time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.answers import code_block, extract


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("thus \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("\\boxed{1} no wait, \\boxed{\\text{B}}", "\\text{B}"),
        ("\\boxed{1} and then \\boxed{2", "1"),
        ("so \\fbox{7} it is", "7"),
        ("The final answer is 42.", "42"),
        ("The answer to the question is 7 because 3+4=7.", "7"),
        ("**Answer:** B. Paris", "B. Paris"),
        ("**Answer**: 3.14", "3.14"),
        ("final answer:\n$$\\frac{3}{4}$$", "\\frac{3}{4}"),
        ("We get 6 * 7.\n#### 42", "42"),
        ("Answer: 1\nlater\nAnswer: 2", "2"),
        ("Let me see.\n\n(C)", "(C)"),
        ("2+3 = 5", "5"),
        ("There are 15 apples.", "15 apples"),
        ("Paris", "Paris"),
        ("<think>\\boxed{3}</think>Now I say:\n4", "4"),
        ("<think>is it \\boxed{3}?</think>\\boxed{5}", "5"),
        ("<think>I am sure: \\boxed{3}", "3"),
        ("Let me think about this. It is hard. I do not see how to go on.", None),
        ("", None),
    ],
)
def test_states(text: str, answer: str | None) -> None:
    assert extract(text) == answer


@pytest.mark.parametrize(
    ("text", "kind", "answer"),
    [
        ("Then 3 cats and 12 dogs make 15 animals in all", "number", "15"),
        ("It must be (C), for (A) is wrong.", "choice", "(A)"),
        ("The answer is that of the options, (B) fits", "choice", "B"),
        ("Yes, since 7 is prime.", "boolean", "Yes"),
        ("Here:\n```python\nx = 1\n```\nand\n```\ny\n```", "code", "x = 1\n"),
        ("<think>```python\nno\n```</think>```python\nyes\n```", "code", "yes\n"),
    ],
)
def test_the_kind_lets_the_last_line_be_read_freely(text: str, kind: str, answer: str) -> None:
    found = extract(text, kind)
    assert found is not None
    assert found.strip("()\n") == answer.strip("()\n")


@given(st.text(alphabet="abc123 +-\\{}", max_size=30).filter(lambda t: t.strip() == t and t), st.text(max_size=50))
def test_a_closed_box_is_found_whatever_stands_before(inner: str, before: str) -> None:
    depth, balanced, escaped = 0, True, False
    for character in inner:
        if escaped:
            escaped = False
            continue
        escaped = character == "\\"
        depth += (character == "{") - (character == "}")
        balanced = balanced and depth >= 0
    if balanced and depth == 0 and not escaped:
        assert extract(f"{before}\n\\boxed{{{inner}}}") == inner


@given(st.text(max_size=300))
def test_any_text_can_be_scanned(text: str) -> None:
    answer = extract(text)
    assert answer is None or answer.strip()


def test_a_cut_off_block_counts() -> None:
    assert code_block("```python\ndef f():\n    return 1") == "def f():\n    return 1"
    assert code_block("no code") is None


SIZE = 400_000
HOSTILE = [
    "\\boxed{" * (SIZE // 7), "{" * SIZE, "}" * SIZE, "Answer: " * (SIZE // 8), "answer to " * (SIZE // 10),
    "$" * SIZE, "1" * SIZE, "= " * (SIZE // 2), "```\n" * (SIZE // 4), "</think>" * (SIZE // 8),
    " " * SIZE + "x", "\n" * SIZE, "\\(" * (SIZE // 2), "the answer " * (SIZE // 11),
    ("a " * 40 + "\n") * (SIZE // 81), "-" * SIZE,
    "1,1" * (SIZE // 3), "#" * SIZE, "**Answer" * (SIZE // 8), "\\boxed" + " " * SIZE + "{1}", "1." * (SIZE // 2),
]  # fmt: skip


@pytest.mark.parametrize("kind", [None, "number", "choice", "code"])
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_outputs_are_scanned_in_linear_time(text: str, kind: str | None) -> None:
    began = time.thread_time()
    extract(text, kind)
    assert time.thread_time() - began < 20  # a quadratic scan takes minutes
