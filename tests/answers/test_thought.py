"""Reasoning sections are told from words about them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.answers import extract, thought_of
from fathom.language.prompts import visible

TAGS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("◁think▷", "◁/think▷"),
]


@pytest.mark.parametrize(("opening", "closing"), TAGS)
def test_a_section_is_found_hidden_and_closed(opening: str, closing: str) -> None:
    assert thought_of(f"{opening}hm").closing == closing
    assert thought_of(f"{opening}hm{closing} so").closing == ""
    assert visible(f"{opening}hm{closing} so") == "so"
    assert visible(f"\n{opening}\nhm\n{closing}\n\nso {opening} on") == f"so {opening} on"
    assert visible(f"{opening}still") == ""
    assert extract(f"{opening}is it \\boxed{{3}}?{closing}\\boxed{{5}}") == "5"
    assert extract(f"{opening}\\boxed{{3}}") == "3"


def test_what_the_template_opened_is_a_section_too() -> None:
    assert visible("is it 3?\n</think>\n\n5") == "5"
    assert visible("is it 3?</think>\n5") == "5"


@pytest.mark.parametrize(
    "text",
    [
        "DeepSeek-R1 writes <think> before it reasons.",
        "Close the section with </think> and then answer. Done.",
        "First <think>, then </think>, says the manual.",
        "a < b, and b > c",
    ],
)
def test_a_tag_in_a_sentence_is_a_word(text: str) -> None:
    assert visible(text) == text
    assert thought_of(text).closing == ""


@given(
    st.lists(st.sampled_from([*(tag for pair in TAGS for tag in pair), "\n", " ", "words", "\\boxed{1}"]), max_size=12)
)
def test_nothing_is_lost_but_the_marks(parts: list[str]) -> None:
    found = thought_of("".join(parts))
    kept = sorted(found.spoken + found.thought)
    assert set("".join(kept)) <= set("".join(parts)) | {"\n"}
    assert found.spoken.count("words") + found.thought.count("words") == parts.count("words")
    if found.closing:
        assert thought_of("".join(parts) + found.closing).closing == ""
