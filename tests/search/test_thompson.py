"""Arms on a line: chosen as often as a draw from every posterior at every choice would choose them."""

from __future__ import annotations

import math
import pickle
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.search.mcts import belief_of
from fathom.search.thompson import Arms, Beta, Posterior, Student

CHOICES = 4000
Belief = Callable[[int, float, float], Posterior]
both = pytest.mark.parametrize("belief", [belief_of("beta"), belief_of("gaussian")], ids=["beta", "gaussian"])


def by_drawing_all(posteriors: list[Posterior], rng: random.Random) -> Counter[int]:
    return Counter(
        max(range(len(posteriors)), key=[posterior.draw(rng) for posterior in posteriors].__getitem__)
        for _ in range(CHOICES)
    )


def of_scores(belief: Belief, rng: random.Random, usual: float) -> Posterior:
    """Of a few scores, or many, around what is usual."""
    n = rng.choice([1, 1, 1, 1, 2, 3, 8, 40])
    scores = [min(1.0, max(0.0, rng.gauss(usual, 0.2))) for _ in range(n)]
    return belief(n, sum(scores), sum(score * score for score in scores))


def assert_alike(mine: Counter[int], theirs: Counter[int]) -> None:
    assert mine.total() == theirs.total()
    for name in mine.keys() | theirs:
        assert abs(mine[name] - theirs[name]) <= 5 * math.sqrt(mine[name] + theirs[name]) + 1, (name, mine, theirs)


@both
@pytest.mark.parametrize("usual", [0.02, 0.4, 0.9, 1.0])
@pytest.mark.parametrize("many", [2, 9, 40])
def test_arms_are_chosen_as_often_as_by_drawing_them_all(belief: Belief, usual: float, many: int) -> None:
    rng = random.Random(random.SystemRandom().random())
    posteriors = [of_scores(belief, rng, usual) for _ in range(many)]
    arms = Arms(rng)
    for name, posterior in enumerate(posteriors):
        arms.put(name, posterior)
    assert_alike(Counter(arms.choose() for _ in range(CHOICES)), by_drawing_all(posteriors, rng))
    assert arms.bar > -math.inf


@both
def test_what_is_learned_between_choices_counts_at_once(belief: Belief) -> None:
    """The law is the same where every arm's posterior is told anew, or changes and changes back, before each choice."""
    rng = random.Random(random.SystemRandom().random())
    posteriors = [of_scores(belief, rng, 0.5) for _ in range(12)]
    arms = Arms(rng)
    mine: Counter[int] = Counter()
    for _ in range(CHOICES):
        for name in rng.sample(range(12), 12) if not mine else rng.sample(range(12), 3):
            arms.put(name, belief(50, 49.5, 49.2))
            arms.put(name, posteriors[name])
        mine[arms.choose()] += 1
    assert_alike(mine, by_drawing_all(posteriors, rng))


@both
def test_a_bar_that_was_set_when_arms_were_better_is_no_bar_to_the_law(belief: Belief) -> None:
    """All are drawn under it, again and again, until it is set anew."""
    rng = random.Random(random.SystemRandom().random())
    posteriors = [of_scores(belief, rng, 0.2) for _ in range(10)]
    mine: Counter[int] = Counter()
    for _ in range(CHOICES // 8):
        arms = Arms(rng)
        for name in range(10):
            arms.put(name, belief(30, 28.0, 26.3))
        for _ in range(17):
            arms.choose()
        for name, posterior in enumerate(posteriors):
            arms.put(name, posterior)
        mine += Counter(arms.choose() for _ in range(8))
    assert_alike(mine, by_drawing_all(posteriors, rng))


pairs = st.tuples(st.floats(0.5, 1e4), st.floats(0.5, 1e4)).map(lambda pair: Beta(*pair))
tails = st.tuples(st.floats(-1, 2), st.floats(1e-3, 1), st.floats(1, 1e4)).map(lambda three: Student(*three))


@given(st.lists(pairs, min_size=1, max_size=30) | st.lists(tails, min_size=1, max_size=30), st.integers())
@settings(max_examples=60, deadline=None)
def test_any_posteriors_give_a_choice_and_the_same_seed_the_same_ones_also_when_resumed(
    posteriors: list[Posterior], seed: int
) -> None:
    arms = Arms(random.Random(seed))
    for name, posterior in enumerate(posteriors):
        arms.put(name, posterior)
    for _ in range(40):
        assert arms.choose() in range(len(posteriors))
    resumed = pickle.loads(pickle.dumps(arms))
    assert [arms.choose() for _ in range(80)] == [resumed.choose() for _ in range(80)]
