"""Models of different size on the same questions: the frontier and the exchange rate, on planted truth."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fathom.errors import UsageError
from fathom.lab.compare import contenders, exchange, frontier
from fathom.lab.comparison_page import compared
from fathom.lab.records import Asked, Terms, Written
from fathom.lab.store import Store

SAMPLES, QUESTIONS = 12, 60


def planted(directory: Path, model: str, parameters: float, chance: dict[int, float], dataset: str = "d") -> Path:
    """A sweep whose samples are right with the question's chance, 20 tokens each, wrong ones all different."""
    rng = random.Random(f"{model} {random.SystemRandom().random()}")
    facts = {"unit": "token", "parameters": parameters, "pace": {"read_seconds": 0.0, "step_seconds": {"1": 0.1}}}
    with Store(directory / model, write=True) as store:
        asked = [Asked(q, f"q{q}", f"{q}?", "1") for q in range(QUESTIONS)]
        sweep = store.begin(model, Terms(model, "", "e", "", "", dataset, 0), asked, facts).id
        for q in range(QUESTIONS):
            for s in range(-1, SAMPLES):
                answer = "1" if rng.random() < chance[q] else f"no {rng.random()}"
                store.add(sweep, [Written(q, -1, s, answer, True, True, float(answer == "1"), 20, answer=answer)])
    return directory / model


def test_votes_of_a_small_model_reach_a_large_one_at_a_stated_rate(tmp_path: Path) -> None:
    small = planted(tmp_path, "small", 1e6, dict.fromkeys(range(QUESTIONS), 0.55))
    large = planted(tmp_path, "large", 4e6, dict.fromkeys(range(QUESTIONS), 0.95))
    found = contenders([large, small])
    assert [c.name for c in found] == ["small", "large"]
    rate = exchange(*found, "flops")
    assert rate is not None
    assert rate.rate is not None
    assert rate.to_larger is not None
    assert rate.rate.value > 1
    assert 0.99 < rate.rate.low <= rate.rate.value <= rate.rate.high  # 1 where a resample needs no more
    assert rate.to_larger == pytest.approx(rate.rate.value / 4, rel=0.01)
    assert "times" in str(rate)
    assert exchange(*found, "dollars") is None
    text = compared(found, [rate], tmp_path / "page.html").read_text()
    assert str(rate).split(",")[0] in text.replace("&#x27;", "'")


def test_what_votes_cannot_reach_is_said_never_to_be(tmp_path: Path) -> None:
    small = planted(tmp_path, "small", 1e6, {q: 0.6 * (q % 2) for q in range(QUESTIONS)})
    large = planted(tmp_path, "large", 4e6, dict.fromkeys(range(QUESTIONS), 0.95))
    rate = exchange(*contenders([small, large]), "flops")
    assert rate is not None
    assert rate.rate is None
    assert "never matches the greedy answer of large within the range" in str(rate)


def test_on_the_frontier_is_what_no_cheaper_point_beats(tmp_path: Path) -> None:
    small = planted(tmp_path, "small", 1e6, dict.fromkeys(range(QUESTIONS), 0.55))
    large = planted(tmp_path, "large", 4e6, dict.fromkeys(range(QUESTIONS), 0.8))
    marks = frontier(contenders([small, large]), "seconds")
    for mark in marks:
        beaten = any(m.cost <= mark.cost and m.accuracy.value >= mark.accuracy.value and m is not mark for m in marks)
        assert not (
            mark.on_frontier and any(m.cost < mark.cost and m.accuracy.value >= mark.accuracy.value for m in marks)
        )
        assert mark.on_frontier or beaten


def test_only_the_same_questions_are_compared(tmp_path: Path) -> None:
    chance = dict.fromkeys(range(QUESTIONS), 0.5)
    one = planted(tmp_path, "one", 1e6, chance)
    with pytest.raises(UsageError, match="two models at least"):
        contenders([one])
    with pytest.raises(UsageError, match="different questions"):
        contenders([one, planted(tmp_path, "two", 2e6, chance, dataset="others")])
