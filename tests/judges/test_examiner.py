"""Data crosses between a candidate and its tests as it is, or not at all."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.judges._examiner import decode, encode, same_value

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
keys = st.integers() | st.text() | st.tuples(st.integers(), st.booleans())
data = st.recursive(
    scalars | st.complex_numbers(allow_nan=False) | st.frozensets(keys) | st.sets(keys),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(keys, inner),
    max_leaves=12,
)


@given(data)
def test_plain_data_comes_back_the_same(value: Any) -> None:
    back = decode(json.loads(json.dumps(encode(value))))
    assert back == value
    assert repr(type(back)) == repr(type(value))
    assert same_value(back, value)


@pytest.mark.parametrize("value", [object(), [print], {1: iter(())}, (x for x in "ab"), Exception("no")])
def test_other_things_do_not_cross(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be compared"):
        encode(value)


@given(st.floats(min_value=-1e6, max_value=1e6), st.floats(1e-4, 1.0))
def test_floats_are_compared_with_a_tolerance(value: float, off: float) -> None:
    assert same_value([value * (1 + 1e-9)], [value])
    assert not same_value((value + off * max(1.0, abs(value)),), (value,))
    assert not same_value(math.nan, value)
    assert not same_value([value], (value,))
