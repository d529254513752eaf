"""Specs of clients: they reach nothing outside, and no way of writing a number gets it over a ceiling."""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import openai
import pytest
from house import House
from hypothesis import given
from hypothesis import strategies as st
from upstreams import Upstream

from fathom.errors import SpecError
from fathom.judges.base import Candidate
from fathom.judges.regex import Regex
from fathom.judges.registry import JUDGES
from fathom.search import STRATEGIES
from fathom.serve.config import Config
from fathom.serve.permit import permit_judge, permit_strategy
from fathom.serve.refusal import Refused

OPEN = Config(judges=[entry.name for entry in JUDGES])
"""A gateway whose operator offers every judge."""


async def refused(house: House, **fathom: Any) -> openai.BadRequestError:
    with pytest.raises(openai.BadRequestError) as caught:
        await house.ask(fathom=fathom)
    return caught.value


@pytest.mark.parametrize(
    "spec",
    [
        "best-of-n(judge=tests)",
        "best-of-n(judge=llm(model=small))",
        "ensemble(models=[a, b])",
        "cascade(models=[a])",
        "vote | best-of-n(judge=prm(model=x, format=y))",
        'best-of-n(judge=callable(function="os:system"))',
        'best-of-n(judge=agreement(server="http://169.254.169.254/"))',
        'best-of-n(judge="llm(model=small)")',
        "auto(profile=/dev/zero)",
        "vote(width=2) | auto(profile=x)",
    ],
)
async def test_specs_lead_nowhere_outside(house: House, upstream: Upstream, spec: str) -> None:
    error = await refused(house, strategy=spec)
    assert (error.code, error.param) == ("not_permitted", "fathom.strategy")
    assert not upstream.bodies


async def test_no_file_that_a_client_names_is_opened(house: House, tmp_path: Path) -> None:
    """Nobody ever writes into the pipe: opening it would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    error = await asyncio.wait_for(refused(house, strategy=f'auto(profile="{tmp_path}/pipe")'), 120)
    absent = await refused(house, strategy=f'auto(profile="{tmp_path}/absent")')
    assert error.message == absent.message


def texts() -> list[tuple[str, str, str]]:
    """Every option of everything registered that takes any text at all."""
    return [
        (kind, entry.name, f.name)
        for kind, registry in (("strategy", STRATEGIES), ("judge", JUDGES))
        for entry in registry
        for f in fields(entry.build)
        if "str" in str(get_type_hints(entry.build)[f.name]).replace("strict", "")
        or "Callable" in str(get_type_hints(entry.build)[f.name])
    ]


@pytest.mark.parametrize(("kind", "name", "option"), texts())
def test_text_is_closed_unless_it_was_said_to_be_harmless(kind: str, name: str, option: str) -> None:
    told = []
    permit = permit_strategy if kind == "strategy" else permit_judge
    try:
        permit(f'{name}({option}="/etc/hostname")', OPEN)
    except Refused as error:
        told.append(error.code)
    except SpecError:
        told.append("tried")
    harmless = {("exact", "reference"), ("regex", "pattern"), ("json-schema", "schema")}
    assert (told == ["not_permitted"]) == ((name, option) not in harmless)


NUMBERS = st.integers(min_value=5000, max_value=10**30) | st.just(float("inf")) | st.just(float("nan"))


@given(
    st.sampled_from(["{}", '"{}"', "'{}'"]),
    NUMBERS,
    st.sampled_from(
        [
            "vote(width={})",
            "vote(depth={})",
            "vote(at_least={})",
            "direct(depth={})",
            "beam(step_tokens={})",
            "vote(width=2) | best-of-n(width={})",
            "best-of-n(judge=llm(parallel={}))",
            "vote | refine(judge=llm(thinking={}))",
            'best-of-n(judge=regex(pattern="x", seconds={}))',
            "fuse(rounds={})",
        ],
    ),
)
def test_no_spelling_of_a_number_gets_it_over_a_ceiling(spelling: str, number: float, spec: str) -> None:
    with pytest.raises((Refused, SpecError)) as caught:
        permit_strategy(spec.format(spelling.format(number)), OPEN)
    assert len(str(caught.value)) < 500
    with pytest.raises((Refused, SpecError)):
        permit_judge(f"llm(parallel={spelling.format(number)})", OPEN)


async def test_a_quoted_number_is_refused_by_the_running_gateway(house: House, upstream: Upstream) -> None:
    for spec in ('vote(width="5000", depth="999999")', 'best-of-n(judge=regex(pattern="x", seconds="2"))'):
        assert (await refused(house, strategy=spec)).code == "invalid_limit"
    assert (await refused(house, strategy="best-of-n", verify='regex(pattern="x", seconds=2)')).param == "fathom.verify"
    assert not upstream.bodies


def test_what_a_client_may_say_is_said() -> None:
    for spec in (
        "vote(width=8, sure=0.9)",
        'vote(width="8", stop=never)',
        "best-of-n(judge=exact(reference=123456789))",
        'best-of-n(judge=regex(pattern="^x", seconds=1), width=4) | refine(judge=llm(thinking=64))',
        "best_of_n(judge=self_certainty)",
    ):
        permit_strategy(spec, Config())


async def test_endless_searches_hold_no_thread_that_others_need(house: House, upstream: Upstream) -> None:
    """Eight requests' worth of searches that backtrack to their limit; what runs beside them is not held up by them."""
    text = "a" * 40 + "!"
    endless = Regex(pattern="(a|aa)+$", on="text", seconds=1.0)
    searches = asyncio.create_task(endless.judge("", [Candidate(f"{text}{k}") for k in range(64)]))
    await asyncio.sleep(0.1)
    names = {thread.name for thread in threading.enumerate() if thread.name.startswith("fathom-regex")}
    assert len(names) <= 2
    assert await asyncio.wait_for(asyncio.to_thread(lambda: 391), 120) == 391
    searches.cancel()
    await asyncio.wait([searches])
    assert (await house.ask(fathom={"strategy": 'best-of-n(judge=regex(pattern="."))', "width": 2})).choices
