"""What an effort buys: fixed widths, or the shares of a measured curve."""

from __future__ import annotations

from pathlib import Path

import pytest
from house import Open
from hypothesis import given
from hypothesis import strategies as st
from upstreams import Upstream

from fathom.language.engines.pace import machine
from fathom.planning.ability import Ability
from fathom.planning.plan import WORTH
from fathom.planning.population import Kind, Population
from fathom.planning.profile import Profile, Spread, save
from fathom.serve.config import EffortEntry, ModelEntry
from fathom.serve.efforts import EFFORTS, SHARES, by_curve

EASY = ((0.7, 0.6, 0.2), (0.3, 0.1, 0.5))  # gains, but not for ever
FLAT = ((1.0, 1.0, 0.0),)  # always right: one sample is as good as 64


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path / "cache"))


def profile(*kinds: tuple[float, float, float]) -> Profile:
    facts = {"model": "m", "engine": "nobody", "machine": machine(), "dataset": "d", "questions": 100, "depth": 40.0}
    return Profile(**facts, spreads=(Spread(None, kinds),))  # type: ignore[arg-type]


@given(st.floats(0.05, 1.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_more_effort_is_never_narrower_and_brings_its_share(easy: float, right: float, hard: float) -> None:
    kinds = (Kind(easy, right, (1 - right) / 2), Kind(1 - easy, hard, (1 - hard) / 2))
    ability = Ability(((1.0, Population(kinds)),), 100, "made up")
    efforts = by_curve(ability)
    widths = [efforts[effort].width or 0 for effort in SHARES]
    assert widths == sorted(widths)
    assert widths[0] == 1
    one, most = ability.accuracy(1, 1.0), ability.accuracy(widths[-1], 1.0)
    for effort, share in SHARES.items():
        assert ability.accuracy(efforts[effort].width or 0, 1.0) >= one + share * (most - one) - WORTH


async def test_without_a_profile_efforts_are_fixed_widths(open_house: Open, upstream: Upstream) -> None:
    house = await open_house()
    (card,) = (await house.client.models.list()).data
    assert card.fathom["efforts"] == {effort: {"width": entry.width} for effort, entry in EFFORTS.items()}
    await house.ask(reasoning_effort="low", fathom={"strategy": "vote(stop=never)"})
    assert sum(body.get("n", 1) for body in upstream.bodies) == 4


async def test_a_kept_profile_is_gone_by_and_told(open_house: Open, upstream: Upstream) -> None:
    save(profile(*FLAT))
    house = await open_house(entry=ModelEntry(uri=f"openai:m@{upstream.url}", efforts={"max": EffortEntry(width=5)}))
    (card,) = (await house.client.models.list()).data
    assert "100 questions" in card.fathom["profile"]
    assert card.fathom["efforts"]["xhigh"] == {"width": 1}
    assert card.fathom["efforts"]["max"] == {"width": 5}
    await house.ask(reasoning_effort="high", fathom={"strategy": "vote(stop=never)"})
    assert sum(body.get("n", 1) for body in upstream.bodies) == 1


async def test_a_profile_can_be_named_by_its_file(open_house: Open, upstream: Upstream, tmp_path: Path) -> None:
    path = save(profile(*EASY), tmp_path / "mine.json")
    house = await open_house(entry=ModelEntry(uri=f"openai:m@{upstream.url}", profile=str(path)))
    efforts = (await house.client.models.list()).data[0].fathom["efforts"]
    assert 1 < efforts["low"]["width"] < efforts["max"]["width"] <= 64
