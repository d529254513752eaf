"""JSON answers: one canonical form of all spellings, and schemas that strangers wrote."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.answers import Schema, canonical_json
from fathom.errors import SpecError

PLAIN = st.none() | st.booleans() | st.integers() | st.text(max_size=6)
JSON = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
)


@given(JSON)
def test_the_order_of_keys_and_the_spacing_do_not_count(value: Any) -> None:
    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: turned(v) for k, v in reversed(value.items())}
        return [turned(v) for v in value] if isinstance(value, list) else value

    key = canonical_json(json.dumps(value))
    assert key is not None
    assert key == canonical_json(json.dumps(turned(value), indent=2, ensure_ascii=False))


@given(JSON, JSON)
def test_what_differs_in_meaning_differs_in_form(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (canonical_json(json.dumps(one)) == canonical_json(json.dumps(other))) == same


@given(st.decimals(-(10**12), 10**12, places=6), st.integers(-3, 3))
def test_numbers_are_equal_by_value(value: Decimal, shift: int) -> None:
    assert canonical_json(f"{value:f}") == canonical_json(f"{value.scaleb(-shift):f}e{shift}")


@pytest.mark.parametrize("text", ["", "{", "NaN", "[1,]", "-Infinity", "{'a': 1}", "[" * 100_000, "1 2", "nul"])
def test_what_is_no_json_has_no_form(text: str) -> None:
    assert canonical_json(text) is None
    assert not Schema({}).allows(text)


def test_huge_numbers_are_not_written_out() -> None:
    assert canonical_json("1e999999999999") == canonical_json("10.0e999999999998")
    assert len(canonical_json("-1e-999999999999") or "") < 30


@given(st.integers(), st.integers(), st.integers())
def test_a_schema_allows_what_it_says(value: int, low: int, high: int) -> None:
    assert Schema({"minimum": low, "maximum": high}).allows(str(value)) == (low <= value <= high)


def test_patterns_and_references_hold() -> None:
    schema = {"$ref": "#/$defs/list", "$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/word"}}}}
    schema["$defs"]["word"] = {"pattern": "^[a-z]+$"}  # type: ignore[index]
    assert Schema(schema).allows('["one", "two", 3]')
    assert not Schema(schema).allows('["one", "Two"]')


def branching(depth: int) -> dict[str, Any]:
    """A schema whose check doubles with every level."""
    steps = {f"s{k}": {"allOf": [{"$ref": f"#/$defs/s{k + 1}"}] * 2} for k in range(depth)}
    return {"$ref": "#/$defs/s0", "$defs": {**steps, f"s{depth}": {}}}


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"pattern": "^(a+)+$"}, json.dumps("a" * 60 + "!")),
        ({"pattern": "^(a|a|b)*$"}, json.dumps("a" * 60 + "!")),
        ({"pattern": "^(a|aa)+$"}, json.dumps("a" * 60 + "!")),
        (branching(60), "1"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "1"),
        ({"$ref": "#/nowhere"}, "1"),
        ({"$ref": "http://localhost:9/schema"}, "1"),
    ],
)
def test_hostile_schemas_end_and_allow_nothing(schema: dict[str, Any], text: str) -> None:
    """Without bounds some of these would run longer than this test could wait."""
    assert not Schema(schema).allows(text)


@pytest.mark.parametrize("schema", [{"type": "what"}, {"properties": 3}, {"enum": "x" * 100_000}])
def test_what_is_no_schema_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        Schema(schema)
