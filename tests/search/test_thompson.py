"""Arms on a line: chosen as often as a draw from every posterior at every choice would choose them."""

from __future__ import annotations

import math
import pickle
import random
from bisect import bisect_right
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.search.thompson import Arms, Beta, Family, Parameters, Student

CHOICES = 4000
both = pytest.mark.parametrize("family", [Beta(), Student()], ids=["beta", "student"])


def by_drawing_all(family: Family, posteriors: list[Parameters], rng: random.Random) -> Counter[int]:
    return Counter(
        max(range(len(posteriors)), key=[family.draw(posterior, rng) for posterior in posteriors].__getitem__)
        for _ in range(CHOICES)
    )


def of_scores(family: Family, rng: random.Random, usual: float) -> Parameters:
    """Of a few scores, or many, around what is usual."""
    n = rng.choice([1, 1, 1, 1, 2, 3, 8, 40])
    scores = [min(1.0, max(0.0, rng.gauss(usual, 0.2))) for _ in range(n)]
    return family.posterior(n, sum(scores), sum(score * score for score in scores))


def assert_alike(mine: Counter[int], theirs: Counter[int]) -> None:
    assert mine.total() == theirs.total()
    for name in mine.keys() | theirs:
        assert abs(mine[name] - theirs[name]) <= 5 * math.sqrt(mine[name] + theirs[name]) + 1, (name, mine, theirs)


@both
@pytest.mark.parametrize("usual", [0.02, 0.4, 0.9, 1.0])
@pytest.mark.parametrize("many", [2, 9, 40])
def test_arms_are_chosen_as_often_as_by_drawing_them_all(family: Family, usual: float, many: int) -> None:
    rng = random.Random(f"{usual} {many}")
    posteriors = [of_scores(family, rng, usual) for _ in range(many)]
    arms = Arms(rng, family)
    for name, posterior in enumerate(posteriors):
        arms.put(name, posterior)
    assert_alike(Counter(arms.choose() for _ in range(CHOICES)), by_drawing_all(family, posteriors, rng))
    assert arms.bar > -math.inf


@both
def test_what_is_learned_between_choices_counts_at_once(family: Family) -> None:
    """The law is the same where every arm's posterior is told anew, or changes and changes back, before each choice."""
    rng = random.Random(1)
    posteriors = [of_scores(family, rng, 0.5) for _ in range(12)]
    arms = Arms(rng, family)
    mine: Counter[int] = Counter()
    for _ in range(CHOICES):
        for name in rng.sample(range(12), 12) if not mine else rng.sample(range(12), 3):
            arms.put(name, family.posterior(50, 49.5, 49.2))
            arms.put(name, posteriors[name])
        mine[arms.choose()] += 1
    assert_alike(mine, by_drawing_all(family, posteriors, rng))


@both
def test_a_bar_that_was_set_when_arms_were_better_is_no_bar_to_the_law(family: Family) -> None:
    """All are drawn under it, again and again, until it is set anew."""
    rng = random.Random(2)
    posteriors = [of_scores(family, rng, 0.2) for _ in range(10)]
    mine: Counter[int] = Counter()
    for _ in range(CHOICES // 8):
        arms = Arms(rng, family)
        for name in range(10):
            arms.put(name, family.posterior(30, 28.0, 26.3))
        for _ in range(17):
            arms.choose()
        for name, posterior in enumerate(posteriors):
            arms.put(name, posterior)
        mine += Counter(arms.choose() for _ in range(8))
    assert_alike(mine, by_drawing_all(family, posteriors, rng))


def any_of(family: Family) -> st.SearchStrategy[tuple[Family, list[Parameters]]]:
    parts = (
        (st.floats(0.5, 1e4), st.floats(0.5, 1e4))
        if isinstance(family, Beta)
        else (st.floats(-1, 2), st.floats(1e-3, 1), st.floats(1, 1e4))
    )
    return st.tuples(st.just(family), st.lists(st.tuples(*parts), min_size=1, max_size=30))


@given(any_of(Beta()) | any_of(Student()), st.integers())
@settings(max_examples=60)
def test_any_posteriors_give_a_choice_and_the_same_seed_the_same_ones_also_when_resumed(
    said: tuple[Family, list[Parameters]], seed: int
) -> None:
    family, posteriors = said
    arms = Arms(random.Random(seed), family)
    for name, posterior in enumerate(posteriors):
        arms.put(name, posterior)
    for _ in range(40):
        assert arms.choose() in range(len(posteriors))
    resumed = pickle.loads(pickle.dumps(arms))
    assert [arms.choose() for _ in range(80)] == [resumed.choose() for _ in range(80)]


def test_the_mean_under_unknown_variance_is_drawn_as_by_its_two_steps() -> None:
    """Student's t is the normal mean with an inverse-gamma variance, both of the same posterior."""
    rng = random.Random(3)
    scores = [rng.random() for _ in range(rng.randrange(1, 9))]
    n, total, squares = len(scores), sum(scores), sum(score * score for score in scores)
    kappa, mean = 1 + n, total / n
    beta = (0.1 + squares - n * mean * mean + n / kappa * (mean - 0.5) ** 2) / 2

    def in_two_steps() -> float:
        variance = beta / rng.gammavariate((1 + n) / 2, 1.0)
        return rng.gauss((0.5 + total) / kappa, math.sqrt(variance / kappa))

    ours = Student()
    at_once = sorted(ours.draw(ours.posterior(n, total, squares), rng) for _ in range(CHOICES))
    stepwise = sorted(in_two_steps() for _ in range(CHOICES))
    distance = max(abs(bisect_right(stepwise, x) - rank) for rank, x in enumerate(at_once)) / CHOICES
    assert distance < 2.2 * math.sqrt(2 / CHOICES)  # Kolmogorov and Smirnov, at one in 10,000
