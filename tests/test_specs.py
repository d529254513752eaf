"""Specs parse to what they say, write themselves back, and build only what is registered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.errors import SpecError
from fathom.specs import Registry, Spec, option, parse_pipeline, parse_spec

names = st.from_regex(r"[a-z][a-z_-]{0,12}", fullmatch=True).filter(lambda n: n not in ("true", "false", "none"))
plain = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.builds(
            Spec, names, st.dictionaries(names.map(lambda n: n.replace("-", "_")), inner, min_size=1, max_size=2)
        )
    ),
    max_leaves=6,
)
specs = st.builds(Spec, names, st.dictionaries(names.map(lambda n: n.replace("-", "_")), values, max_size=3))


@given(specs)
def test_a_spec_written_parses_to_itself(spec: Spec) -> None:
    assert parse_spec(str(spec)) == spec


@given(st.lists(specs, min_size=1, max_size=3))
def test_a_pipeline_keeps_its_order(pipeline: list[Spec]) -> None:
    assert list(parse_pipeline(" | ".join(map(str, pipeline)))) == pipeline


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r'"^\d+$"', r"^\d+$"),
        (r"'^\w+\.\s$'", r"^\w+\.\s$"),
        (r'"a \"b\" c"', 'a "b" c'),
        (r"'it\'s'", "it's"),
        (r'"\\d"', r"\d"),
        (r'"C:\\new\table"', r"C:\new\table"),
        (r'"\\"', "\\"),
        (r'"\\\""', '\\"'),
    ],
)
def test_only_backslashes_and_quotation_marks_are_escaped(written: str, read: str) -> None:
    spec = parse_spec(f"regex(pattern={written})")
    assert spec == Spec("regex", {"pattern": read})
    assert parse_spec(str(spec)) == spec


@given(st.text(alphabet="\\\"'dn ", max_size=12))
def test_text_is_written_so_that_it_reads_the_same(text: str) -> None:
    assert parse_spec(str(Spec("a", {"b": text}))) == Spec("a", {"b": text})


@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused_with_its_place(text: str) -> None:
    try:
        parse_pipeline(text)
    except SpecError as error:
        assert "character" in str(error)  # noqa: PT017


@pytest.mark.parametrize("text", ["", "a b", "a(", "a(b)", "a(b=1, b=2)", "a |", "(", 'a(b="c)', "a(b=[1)", "a(b=1))"])
def test_what_does_not_parse_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="cannot read"):
        parse_pipeline(text)


def test_deep_nesting_and_long_text_are_refused_rather_than_crashing() -> None:
    with pytest.raises(SpecError, match="nested"):
        parse_spec("a(b=" * 500 + "1" + ")" * 500)
    with pytest.raises(SpecError, match="characters"):
        parse_spec("a" * 20_000)


def _colour(value: Any) -> str:
    return f"colour {value}"


@dataclass(frozen=True)
class Sail:
    """Catch the wind."""

    area: int
    reef: float = option(0.5, "how much is reefed")
    rig: Literal["sloop", "ketch"] = option("sloop", "its rig")
    colour: str = option("white", "its colour", parse=_colour)


@pytest.fixture
def registry() -> Registry[Any]:
    registry: Registry[Any] = Registry("sail")
    registry.register("main-sail", source="a book")(Sail)
    return registry


def test_options_are_converted_by_their_types(registry: Registry[Any]) -> None:
    assert registry.build("main-sail(area=30, reef=1, colour=red)") == Sail(30, 1.0, "sloop", "colour red")
    assert registry.build("main_sail(area=7)") == Sail(7)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("mian-sail", "Did you mean 'main-sail'"),
        ("main-sail(aera=3)", "Did you mean 'area'"),
        ("main-sail", "needs the option 'area'"),
        ("main-sail(area=big)", "area"),
        ("main-sail(area=1.5)", "area"),
        ("main-sail(area=1, rig=yawl)", "rig"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_there_is(registry: Registry[Any], spec: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        registry.build(spec)
    assert says in str(caught.value)


def test_an_object_tells_the_spec_that_builds_it(registry: Registry[Any]) -> None:
    sail = registry.build("main-sail(area=30, rig=ketch)")
    assert str(registry.spec_of(sail)) == "main-sail(area=30, rig=ketch)"
