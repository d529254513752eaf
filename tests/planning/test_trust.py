"""An ensemble that votes by what was measured of its members."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom import Problem, Run
from fathom.api import strategy_of
from fathom.language.engines.pace import machine
from fathom.language.model import LanguageModel
from fathom.planning.profile import Profile, Spread, save
from fathom.planning.trust import log_odds
from fathom.team import Team

Make = Callable[..., LanguageModel]


def measured(model: str, right: float, without: float = 0.1, dataset: str = "sums") -> None:
    """Keep a profile by which a model is so often right with its reasoning, and without."""
    spreads = (Spread(0, ((1.0, without, 0.0),)), Spread(None, ((1.0, right, 0.0),)))
    save(Profile(model=model, machine=machine(), dataset=dataset, questions=100, depth=20.0, spreads=spreads))


async def votes(scripted: Make, said: dict[str, str], spec: str) -> tuple[str, dict[str, float], tuple[str, ...]]:
    """What models that always say the same come to together: the answer, its votes, the notes."""
    models = [scripted({answer: 1.0}, name=name) for name, answer in said.items()]
    receipt = (await Run(Team(models), Problem.of("?"), strategy_of(spec)).finish()).receipt
    return receipt.answer, {c.answer: c.votes for c in receipt.candidates}, receipt.notes


async def test_one_good_model_outvotes_two_that_are_hardly_better_than_chance(scripted: Make) -> None:
    for name, right in (("good", 0.9), ("bad", 0.6), ("worse", 0.58)):
        measured(name, right)
    spec = "ensemble(models=[b, c], weights=profile, width=9)"
    answer, found, notes = await votes(scripted, {"good": "1", "bad": "2", "worse": "2"}, spec)
    odds = [math.log(p / (1 - p)) for p in (0.9, 0.6, 0.58)]
    assert answer == "1"
    assert found == pytest.approx({"1": 9 * odds[0] / sum(odds), "2": 9 * (odds[1] + odds[2]) / sum(odds)})
    assert notes == ()


async def test_what_counts_is_the_accuracy_at_the_depth_that_is_run(scripted: Make) -> None:
    measured("thinker", 0.95, without=0.55)
    measured("knower", 0.75, without=0.75)
    said = {"thinker": "1", "knower": "2"}
    assert (await votes(scripted, said, "ensemble(models=[b], weights=profile, width=8)"))[0] == "1"
    assert (await votes(scripted, said, "ensemble(models=[b], weights=profile, width=8, depth=0)"))[0] == "2"


async def test_without_a_profile_of_each_all_votes_are_equal_and_a_note_says_so(scripted: Make) -> None:
    measured("good", 0.9)
    spec = "ensemble(models=[b, c], weights=profile, width=9)"
    answer, found, notes = await votes(scripted, {"good": "1", "new": "2", "newer": "2"}, spec)
    assert (answer, found) == ("2", {"2": 6.0, "1": 3.0})
    (note,) = notes
    assert "no profile of new, newer" in note


async def test_profiles_of_different_questions_are_compared_with_a_note(scripted: Make) -> None:
    measured("good", 0.9, dataset="sums")
    measured("bad", 0.6, dataset="riddles")
    *_, notes = await votes(scripted, {"good": "1", "bad": "2"}, "ensemble(models=[b], weights=profile, width=2)")
    assert any("riddles, sums" in note for note in notes)


async def test_in_a_pipeline_it_is_weighed_too(scripted: Make) -> None:
    measured("good", 0.9)
    measured("bad", 0.6)
    said = {"bad": "2", "good": "1"}
    assert (await votes(scripted, said, "first(width=1) | ensemble(models=[b], weights=profile, width=4)"))[0] == "1"


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6))
def test_weights_rise_with_accuracy_and_none_is_nothing_or_everything(accuracies: list[float]) -> None:
    weights = log_odds(accuracies)
    assert sum(weights) == pytest.approx(len(weights))
    assert [w for _, w in sorted(zip(accuracies, weights, strict=True))] == sorted(weights)
    assert min(weights) > 0
    assert max(weights) / min(weights) < 37


def test_they_are_right_more_often_than_equal_ones() -> None:
    """Between two answers, of voters that err independently."""
    rng = random.Random(random.SystemRandom().random())
    accuracies = [0.85, 0.6, 0.6, 0.55, 0.55]
    weights = log_odds(accuracies)
    weighted = equal = 0.0
    rounds = 20_000
    for _ in range(rounds):
        right = [rng.random() < p for p in accuracies]
        weighted += sum(w if r else -w for w, r in zip(weights, right, strict=True)) > 0
        equal += sum(right) > 2
    assert weighted > equal + 0.02 * rounds
