"""The bounded keywords say what the unbounded ones say, and end where those would not."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.answers import Schema
from fathom.errors import SpecError

NAMES = st.sampled_from(["a", "aa", "ab", "b", "1", ""])
PATTERNS = st.sampled_from(["^a", "b$", "^a+$", "[0-9]", "^$"])
NUMBERS = st.sampled_from([0, 1, 1.0, -0.0, 1.5, 10**20, 1e20, True, False])
JSON = st.recursive(
    st.none() | NUMBERS | NAMES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)
KINDS = st.sampled_from(["string", "integer", "array", "object", "null"])
SCHEMAS = st.recursive(
    st.booleans() | st.fixed_dictionaries({"type": KINDS}) | st.fixed_dictionaries({"pattern": PATTERNS}),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "patternProperties": st.dictionaries(PATTERNS, inner, max_size=2),
            "additionalProperties": inner,
            "uniqueItems": st.booleans(),
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "unevaluatedItems": inner,
        },
    ),
    max_leaves=8,
)
DRAFTS = st.sampled_from(["http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2020-12/schema"])


@given(SCHEMAS, DRAFTS, JSON)
def test_a_schema_means_what_it_means_without_bounds(schema: Any, draft: str, document: Any) -> None:
    schema = {"$schema": draft, **schema} if isinstance(schema, dict) else schema
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    valid = kind(schema).is_valid(document)
    assert Schema(schema).judge(document, seconds=60.0)[0] is valid
    assert Schema(schema).allows(json.dumps(document)) is valid


@given(st.lists(JSON, max_size=6))
def test_items_are_unique_where_no_two_are_equal(items: list[Any]) -> None:
    valid = jsonschema.Draft202012Validator({"uniqueItems": True}).is_valid(items)
    assert Schema({"uniqueItems": True}).judge(items, seconds=60.0)[0] is valid


@pytest.mark.parametrize(
    "schema",
    [
        {"patternProperties": {"^(a|aa)+$": {}}},
        {"patternProperties": {"^(?:a|a)*$": {}}, "additionalProperties": False},
        {"additionalProperties": {"pattern": "^(a|aa)+$"}},
        {"propertyNames": {"pattern": "^(?:a|a)*$"}},
    ],
)
def test_a_pattern_that_backtracks_without_end_ends_its_check(schema: dict[str, Any]) -> None:
    document = {"a" * 60 + "!": "a" * 60 + "!"}
    assert Schema(schema).judge(document, seconds=0.1) == (None, "the check takes longer than 0.1 s")
    assert not Schema(schema).allows(json.dumps(document))


def test_many_items_are_told_apart_without_comparing_each_with_each() -> None:
    """Each with each, this takes minutes; so does a hash table, of numbers that all share one hash."""
    things = [{"n": n} for n in range(20_000)]
    alike = [n * (2**61 - 1) for n in range(20_000)]
    for items in (things, alike, [*things, *alike]):
        assert Schema({"uniqueItems": True}).judge(items, seconds=60.0)[0] is True
        assert Schema({"uniqueItems": True}).judge([*items, items[3]], seconds=60.0)[0] is False


def test_a_schema_itself_is_read_within_bounds() -> None:
    """Compared each with each, what this one lists takes minutes."""
    schema = {"$schema": "http://json-schema.org/draft-04/schema#", "enum": [{"": n} for n in range(2_800)]}
    assert Schema(schema).allows('{"": 7}')
    schema["enum"].append({"": 7.0})  # type: ignore[attr-defined]
    with pytest.raises(SpecError, match="equal items"):
        Schema(schema)


def test_a_pattern_that_takes_all_memory_is_not_read() -> None:
    schema = Schema({"pattern": "((a{1000}){1000}){1000}"})
    valid, why = schema.judge("aaa", seconds=60.0)
    assert valid is None
    assert "too large" in why
    assert schema.allows('"aaa"')


def test_what_cannot_be_bounded_gets_no_verdict() -> None:
    schema = Schema({"patternProperties": {"^a": {}}, "unevaluatedProperties": False})
    assert schema.judge({"a": 1}, seconds=60.0)[0] is None
    assert schema.allows('{"a": 1}')
    assert not schema.allows('{"a": }')
