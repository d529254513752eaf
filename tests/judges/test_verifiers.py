"""Exact match, patterns, JSON schemas, recomputed arithmetic and callables, each built by name as specs build them."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.errors import SpecError
from fathom.judges.arithmetic import Arithmetic, equations
from fathom.judges.base import Candidate, Verdict, Verifier
from fathom.judges.function import Function
from fathom.judges.json_schema import JsonSchema
from fathom.judges.regex import Regex
from fathom.judges.registry import JUDGES, make_judge


async def _one(judge: Verifier | None, text: str, answer: str | None = None) -> Verdict:
    assert judge is not None
    (verdict,) = await judge.judge("the problem", [Candidate(text, answer)])
    return verdict


def test_all_have_names_and_summaries() -> None:
    names = {entry.name for entry in JUDGES}
    assert {"arithmetic", "callable", "exact", "json-schema", "regex", "tests"} <= names
    assert all(entry.summary and entry.build.name == entry.name for entry in JUDGES)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("exakt(reference=1)", "Did you mean 'exact'"),
        ("exact", "reference"),
        ('exact(reference=" ")', "empty"),
        ("exact(reference=1, tolerance=-1)", "tolerance"),
        ('regex(pattern="(")', "not a regular expression"),
        ("regex(pattern=a, seconds=0)", "seconds"),
        ('regex(pattern="((a{1000}){1000}){1000}")', "too large"),
        ('regex(pattern="(?x)(a{1000}) {1000}")', "too large"),
        ('regex(pattern="a{200000000}")', "too large"),
        ("regex(pattern=a, on=nowhere)", "on"),
        ('json-schema(schema="{")', "not JSON"),
        ('json-schema(schema="{\\"type\\": 3}")', "not a JSON schema"),
        ("callable(function=os:system)", "only from Python"),
        ('tests(code="def")', "not valid Python"),
        ("tests(seconds=-1)", "seconds"),
        ("tests(memory_mb=1)", "64"),
        ("arithmetic(depth=3)", "depth"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(spec: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        make_judge(spec)
    assert says in str(caught.value)


@given(st.fractions(max_denominator=1000))
def test_exact_goes_by_meaning(value: Any) -> None:
    judge = make_judge(f'exact(reference="{value.numerator}/{value.denominator}")')
    right = asyncio.run(_one(judge, "", f"\\frac{{{value.numerator}}}{{{value.denominator}}}"))
    wrong = asyncio.run(_one(judge, "", f"{value.numerator + 1}/{value.denominator}"))
    assert (right, right.passed) == (Verdict(1.0, True, "the same"), True)
    assert (wrong.score, wrong.passed) == (0.0, False)


async def test_exact_tolerates_what_it_is_told_to() -> None:
    judge = make_judge("exact(reference=200, tolerance=0.01)")
    for answer, passed in (("202", True), ("198.0", True), ("202.1", False), ("hello", False), ("100 + 101", True)):
        assert (await _one(judge, "", answer)).passed is passed
    root = make_judge('exact(reference="\\\\sqrt{2}", tolerance=0.001)')
    assert (await _one(root, "", "1.4142")).passed
    assert (await _one(judge, "I do not know", None)).passed is False


@pytest.mark.parametrize(
    "pattern", [r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}$", "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "x{1,5000}"]
)
def test_regex_takes_what_is_repeated_within_reason(pattern: str) -> None:
    assert Regex(pattern=pattern).pattern == pattern


async def test_regex_matches_the_answer_or_the_text() -> None:
    digits = str(random.randint(0, 10**9))
    assert (await _one(make_judge('regex(pattern="^\\d+$")'), "x", digits)).passed
    assert (await _one(make_judge('regex(pattern="^\\\\d+$")'), digits, "x")).passed is False
    assert (await _one(make_judge('regex(pattern="^\\\\d+$", on=text)'), digits, "x")).passed
    assert (await _one(Regex(pattern="ABC", ignore_case=True), "", "xabcx")).passed
    assert (await _one(Regex(pattern="a"), "a", None)).passed is False


async def test_a_pattern_without_end_is_stopped_and_blocks_nobody() -> None:
    judge = Regex(pattern=r"(a|a?)+(b|b?)+$(?<=c)", seconds=2.0)
    began = time.monotonic()
    search = asyncio.create_task(_one(judge, "", "a" * 5000 + "!"))
    turns = 0
    while not search.done():
        await asyncio.sleep(0.01)
        turns += 1
    verdict = search.result()
    assert (verdict.passed, verdict.score) == (None, 0.0)
    assert "longer than 2 s" in verdict.detail
    assert time.monotonic() - began < 60
    assert turns > 2


SCHEMA = json.dumps({"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "minimum": 0}}})


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ('{"n": 7}', True),
        ('Here it is:\n```json\n{"n": 7}\n```\nDone.', True),
        ('{"n": -7}', False),
        ('{"n": "7"}', False),
        ('{"m": 7}', False),
        ('{"n": NaN}', False),
        ("no JSON", False),
        ("[" * 100_000, False),
        ('{"n": ' + "9" * 5000 + "}", False),
        ("", False),
    ],
)
async def test_json_is_held_against_the_schema(text: str, passed: bool) -> None:
    assert (await _one(JsonSchema(schema=SCHEMA, seconds=60.0), text)).passed is passed


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ('{"pattern": "^(a|aa)+$"}', f'"{"a" * 60}!"'),
        ('{"patternProperties": {"^(a|aa)+$": {"type": "null"}}}', f'{{"{"a" * 60}!": 1}}'),
        (
            '{"$ref": "#/$defs/a", "$defs": {"a": {"items": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}, '
            '"type": "array"}}}',
            "[" * 60 + "1" + "]" * 60,
        ),
    ],
    ids=["pattern", "names", "references"],
)
async def test_a_check_without_end_costs_the_verdict_and_holds_nothing_up(schema: str, text: str) -> None:
    judge = JsonSchema(schema=schema, seconds=2.0)
    check = asyncio.create_task(_one(judge, text))
    turns = 0
    while not check.done():
        await asyncio.sleep(0.01)
        turns += 1
    verdict = check.result()
    assert verdict.passed is None
    assert "longer than 2 s" in verdict.detail
    assert turns > 2


async def test_a_document_of_many_items_is_judged() -> None:
    judge = JsonSchema(schema='{"type": "array", "uniqueItems": true}', seconds=120.0)
    items = [{"n": n} for n in range(10_000)]
    assert (await _one(judge, json.dumps(items))).passed
    assert (await _one(judge, json.dumps([*items, items[7]]))).passed is False
    assert (await _one(judge, json.dumps([*items, *items]))).passed is False, "too long"


async def test_schemas_reach_for_no_other_document() -> None:
    judge = JsonSchema(schema='{"$ref": "http://127.0.0.1:1/schema.json"}')
    verdict = await _one(judge, "{}")
    assert verdict.passed is None
    assert "no verdict" in verdict.detail


@given(
    st.lists(
        st.tuples(st.integers(0, 999), st.sampled_from("+-*/"), st.integers(1, 99), st.booleans()),
        min_size=1,
        max_size=8,
    )
)
def test_arithmetic_counts_the_equations_that_hold(sums: list[tuple[int, str, int, bool]]) -> None:
    lines, right = [], 0
    for a, sign, b, true in sums:
        result = {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[sign] + (0 if true else 1)
        shown = f"{result:.4f}" if sign == "/" else str(result)
        shape = random.choice(
            ["So {} {} {} = {}.", "we get ${} {} {} = {}$", "- {} {} {} = {}", "{} {} {} = {} apples"]
        )
        lines.append(shape.format(a, sign, b, shown))
        right += true
    verdict = asyncio.run(_one(make_judge("arithmetic"), "\n".join(lines)))
    assert verdict.score == pytest.approx(right / len(sums)), (lines, verdict)
    assert verdict.passed is (right == len(sums))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("2 + 3 = 5 = 10 / 2", [True, True]),
        ("$\\frac{1}{2} + \\frac{1}{3} = \\frac{5}{6}$", [True]),
        ("12 \\times 3 = 36, 12 × 3 = 35", [True, False]),
        ("$5 + $3 = $8", [True]),
        ("1. 2 + 2 = 4", [True]),
        ("1/3 = 0.33 and 2/3 ≈ 0.67 and 2/3 = 0.66", [True, True, False]),
        ("1,000 * 3 = 3,000", [True]),
        ("50% * 8 = 4", [True]),
        ("x = 5; 3x = 9; f(2) = 4; x + 3 = 9; 100 - 20% = 80; a b c", []),
        ("9^9^9^9 = 1; 1/0 = 2", []),
    ],
)
def test_arithmetic_reads_equations_of_numbers_only(text: str, holds: list[bool]) -> None:
    assert [held for _, held in equations(text)] == holds


@pytest.mark.parametrize(
    "text", ["", "1+1=2 " * 50_000, "=" * 10**5, "(" * 10**5, "1+" * 10**5 + "1=2", "9" * 10**5 + "=1+1"]
)
async def test_arithmetic_survives_hostile_reasoning(text: str) -> None:
    began = time.monotonic()
    verdict = await _one(Arithmetic(), text)
    assert time.monotonic() - began < 60
    assert verdict.passed in (None, False, True)


async def test_callables_sync_and_async() -> None:
    threads = []

    def long_enough(candidate: Candidate) -> bool:
        threads.append(threading.current_thread())
        return len(candidate.text) > 3

    async def graded(problem: str, candidate: Candidate) -> float:
        return len(problem) / 20

    def spoken(problem: str, candidate: Candidate) -> Verdict:
        return Verdict(0.5, None, problem)

    assert await _one(make_judge(long_enough), "abcd") == Verdict(1.0, True)
    assert await _one(make_judge(long_enough), "abc") == Verdict(0.0, False)
    assert threading.main_thread() not in threads
    assert await _one(Function(graded), "") == Verdict(0.55)
    assert await _one(Function(spoken), "") == Verdict(0.5, None, "the problem")


@pytest.mark.parametrize("said", [None, 2, -0.1, float("nan"), "yes"])
async def test_a_callable_that_says_nonsense_or_raises_gives_no_verdict(said: Any) -> None:
    verdict = await _one(Function(lambda candidate: said), "")
    assert (verdict.score, verdict.passed) == (0.0, None)
    verdict = await _one(Function(lambda candidate: 1 / 0), "")
    assert "division by zero" in verdict.detail
    with pytest.raises(SpecError, match="must take the candidate"):
        Function(lambda: True)
