"""Calls in what models write: whole, in pieces, cut, broken, nested, and text that only looks like them."""

from __future__ import annotations

import itertools
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.language.choice import Choice
from fathom.language.engines.base import Piece
from fathom.language.engines.tool_calls import CallReader

NAMES = frozenset({"weather", "add"})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(
    st.text(max_size=6) | st.just("</tool_call>"), JSON | st.just('"}</tool_call>{'), max_size=3
)
CALLS = st.lists(st.tuples(st.sampled_from(sorted(NAMES)), ARGUMENTS), min_size=1, max_size=3)


def read(text: str, cuts: list[int] | None = None, names: frozenset[str] = NAMES) -> tuple[str, list[tuple[str, str]]]:
    """What is shown, and the calls, of a text that comes in these pieces."""
    reader, choice, shown = CallReader(names), Choice(), ""
    places = [0, *sorted({cut % (len(text) + 1) for cut in cuts or []}), len(text)]
    for begin, end in itertools.pairwise(places):
        more, calls = reader.feed(text[begin:end], last=end == len(text))
        shown += more
        choice.add(Piece(0, calls=calls))
    assert len({call.id for call in choice.tool_calls}) == len(choice.tool_calls)
    return shown, [(call.name, call.arguments) for call in choice.tool_calls]


def tagged(name: str, arguments: object, *, ascii: bool = True) -> str:
    said = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=ascii)
    return f"<tool_call>\n{said}\n</tool_call>"


@given(CALLS, st.booleans(), st.lists(st.integers(0, 10**6), max_size=40), st.sampled_from(["", "Let me look.", "<"]))
def test_calls_are_found_however_they_are_cut(
    calls: list[tuple[str, dict[str, object]]], ascii: bool, cuts: list[int], before: str
) -> None:
    text = before + "\n" + "\n".join(tagged(name, arguments, ascii=ascii) for name, arguments in calls)
    shown, found = read(text, cuts)
    assert shown.strip() == before
    assert [(name, json.loads(said)) for name, said in found] == calls


@given(st.text(alphabet='<tool_call>{}"\\name: add/`js\nhik', max_size=80), st.lists(st.integers(0, 99), max_size=30))
def test_nothing_is_lost_of_what_is_no_call(text: str, cuts: list[int]) -> None:
    shown, found = read(text, cuts)
    assert (shown, found) == read(text)
    assert found or shown == text


@given(
    st.lists(
        st.sampled_from(
            [
                "<tool_call>",
                "</tool_call>",
                "<think>",
                "</think>",
                '{"name": "add"',
                ', "arguments": {}',
                "}",
                "{",
                '"',
                "\n",
                "x",
            ]
        )
    )
)
def test_whatever_tags_are_put_together_it_comes_to_an_end(parts: list[str]) -> None:
    text = "".join(parts)
    shown, found = read(text, list(range(len(text))))
    assert (shown, found) == read(text)
    assert all(name == "add" for name, _ in found)


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "weather", "argum',
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"',
        "<tool_call>",
        "<tool_ca",
        '<tool_call>{"name": "weather", "arguments": {city: Paris}}</tool_call>',
        '<tool_call>{"arguments": {}}</tool_call>',
        '<tool_call>{"name": 7, "arguments": {}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": "\\ud800"}</tool_call>',
        "<tool_call></tool_call>",
        "<tool_call>weather()</tool_call>",
        '<tool_call>["weather"]</tool_call>',
        '<tool_call>{"name": "weather", "arguments": ' + "[" * 9999 + "]" * 9999 + "}</tool_call>",
        '<tool_call>{"name": "weather", "arguments": ' + '{"a":' * 9999 + "1" + "}" * 9999 + "}</tool_call>",
        '<tool_call>{"name": "weather", "arguments": ' + "9" * 9999 + "}</tool_call>",
        '{"name": "Ada", "arguments": {}}',
        '{"name": "weather"}',
        '{"name": "weather", "arguments": {}, "more": 1}',
        '```json\n{"name": "weather", "forecast": "rain"}\n```',
        '```python\n{"name": "weather", "arguments": {}}\n```',
        'So: {"name": "weather", "arguments": {}}',
        '<think>I call <tool_call>{"name": "weather", "arguments": {}}</tool_call>, then',
        '<think>\n{"name": "weather", "arguments": {}}\n</think>\nIt rains.',
    ],
)
def test_what_is_no_call_stays_text(text: str) -> None:
    assert read(text) == (text, [])
    assert read(text, [random.randrange(10**4) for _ in range(20)]) == (text, [])


@pytest.mark.parametrize(
    ("text", "shown", "calls"),
    [
        ('<tool_call>{"name": "f"}</tool_call>', "", [("f", "")]),  # a function that was not offered is no vote
        ('<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("add", '{"a": 1}')]),
        ('<tool_call>{"name": "add", "arguments": {}}', "", [("add", "{}")]),
        (
            '<tool_call>{"name": "add", "arguments": {}}\n{"name": "weather"}</tool_call>',
            "",
            [("add", "{}"), ("weather", "")],
        ),
        ('<tool_call>{"name": "add", "arguments": {}}</tool_call>\nDone.', "Done.", [("add", "{}")]),
        ('<tool_call><tool_call>{"name": "add", "arguments": {}}</tool_call>', "<tool_call>", [("add", "{}")]),
        ('{"name": "add", "arguments": {"a": 1}}', "", [("add", '{"a": 1}')]),
        (
            '<think>If <tool_call>{"name": "f"}</tool_call>?</think>\n<tool_call>{"name": "add"}</tool_call>',
            '<think>If <tool_call>{"name": "f"}</tool_call>?</think>',
            [("add", "")],
        ),
        ('\n```json\n{\n "name": "add",\n "arguments": {}}\n```\n', "", [("add", "{}")]),
        ('```\n{"name": "add", "arguments": {}}\n```\nIt adds.', "It adds.", [("add", "{}")]),
    ],
)
def test_what_is_one_all_the_same(text: str, shown: str, calls: list[tuple[str, str]]) -> None:
    for cuts in ([], list(range(len(text)))):
        found, called = read(text, cuts)
        assert (found.strip(), called) == (shown, calls)


def test_text_is_shown_as_soon_as_it_is_certain() -> None:
    reader = CallReader(NAMES)
    assert reader.feed("He")[0] == "He"
    assert reader.feed("llo <")[0] == "llo"
    assert reader.feed("b>")[0] == " <b>"
    assert reader.feed('{"name": "add"')[0] == '{"name": "add"'
