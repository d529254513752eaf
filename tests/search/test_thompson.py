"""Sleeping arms: chosen as often as a draw from every posterior at every choice would choose them."""

from __future__ import annotations

import math
import pickle
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.search.thompson import BetaArms

CHOICES = 4000


def by_drawing_all(posteriors: list[tuple[float, float]], rng: random.Random) -> Counter[int]:
    return Counter(
        max(range(len(posteriors)), key=[rng.betavariate(a, b) for a, b in posteriors].__getitem__)
        for _ in range(CHOICES)
    )


def posterior(rng: random.Random, usual: float) -> tuple[float, float]:
    """Of a few scores, or many, around what is usual."""
    n = rng.choice([1, 1, 1, 1, 2, 3, 8, 40])
    total = sum(min(1.0, max(0.0, rng.gauss(usual, 0.2))) for _ in range(n))
    return 0.5 + total, 0.5 + n - total


@pytest.mark.parametrize("usual", [0.02, 0.4, 0.9, 1.0])
@pytest.mark.parametrize("many", [2, 9, 40])
def test_arms_are_chosen_as_often_as_by_drawing_them_all(usual: float, many: int) -> None:
    rng = random.Random(random.SystemRandom().random())
    posteriors = [posterior(rng, usual) for _ in range(many)]
    arms = BetaArms(rng)
    for name, (a, b) in enumerate(posteriors):
        arms.put(name, a, b)
    mine, theirs = Counter(arms.choose() for _ in range(CHOICES)), by_drawing_all(posteriors, rng)
    assert mine.total() == CHOICES
    for name in range(many):
        difference, both = mine[name] - theirs[name], mine[name] + theirs[name]
        assert abs(difference) <= 5 * math.sqrt(both) + 1, (posteriors[name], mine[name], theirs[name])


def test_what_is_learned_between_choices_counts_at_once() -> None:
    """The law is the same where every arm's posterior is told anew, or changes and changes back, before each choice."""
    rng = random.Random(random.SystemRandom().random())
    posteriors = [posterior(rng, 0.5) for _ in range(12)]
    arms = BetaArms(rng)
    mine: Counter[int] = Counter()
    for _ in range(CHOICES):
        for name in rng.sample(range(12), 12) if not mine else rng.sample(range(12), 3):
            arms.put(name, 50.0, 1.0)
            arms.put(name, *posteriors[name])
        mine[arms.choose()] += 1
    theirs = by_drawing_all(posteriors, rng)
    assert all(abs(mine[name] - theirs[name]) <= 5 * math.sqrt(mine[name] + theirs[name]) + 1 for name in range(12))


@given(st.lists(st.tuples(st.floats(0.5, 1e4), st.floats(0.5, 1e4)), min_size=1, max_size=30), st.integers())
@settings(max_examples=40, deadline=None)
def test_any_posteriors_give_a_choice_and_the_same_seed_the_same_ones_also_when_resumed(
    posteriors: list[tuple[float, float]], seed: int
) -> None:
    arms = BetaArms(random.Random(seed))
    for name, (a, b) in enumerate(posteriors):
        arms.put(name, a, b)
    for _ in range(3):
        assert arms.choose() in range(len(posteriors))
    resumed = pickle.loads(pickle.dumps(arms))
    assert [arms.choose() for _ in range(80)] == [resumed.choose() for _ in range(80)]
