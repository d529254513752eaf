"""The stopping rules against exact formulas worked out another way, and against simulation."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.judges.stopping import beats_runner_up, cannot_change, chance_of_losing, is_mode

small_counts = st.lists(st.integers(0, 9), min_size=1, max_size=4)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(0, 4))
def test_cannot_change_agrees_with_trying_all_futures(counts: list[int], remaining: int) -> None:
    votes = [*sorted(counts, reverse=True), 0]  # the last is an answer that nobody gave yet

    def leads_alone(votes: list[int], left: int) -> bool:
        if left == 0:
            return all(votes[0] > other for other in votes[1:])
        return all(leads_alone([v + (i == j) for j, v in enumerate(votes)], left - 1) for i in range(len(votes)))

    assert cannot_change(counts, remaining) == (remaining == 0 or leads_alone(votes, remaining))


def test_cannot_change_minds_the_weight_of_a_vote() -> None:
    assert cannot_change([2.5, 1.0], 1)
    assert not cannot_change([2.5, 1.0], 1, max_weight=1.5)
    with pytest.raises(ValueError, match="negative"):
        cannot_change([1, -1], 3)


def _beta_above_half(a: int, b: int) -> Fraction:
    """P(p > 1/2) for p ~ Beta(a, b): the polynomial x^(a-1) (1-x)^(b-1), expanded and integrated exactly."""
    norm = Fraction(math.factorial(a + b - 1), math.factorial(a - 1) * math.factorial(b - 1))
    terms = ((-1) ** k * math.comb(b - 1, k) * (1 - Fraction(1, 2 ** (a + k))) / (a + k) for k in range(b))
    return norm * sum(terms, Fraction(0))


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_beta_rule_is_exact(first: int, second: int) -> None:
    first, second = max(first, second), min(first, second)
    exact = float(_beta_above_half(first + 1, second + 1))
    assert beats_runner_up([second, first]) == pytest.approx(exact, abs=1e-12)


def test_the_beta_rule_by_simulation() -> None:
    rng, draws = random.Random(4), 40_000
    for first, second in ((4, 1), (9, 6), (3, 3)):
        above = sum(rng.betavariate(first + 1, second + 1) > 0.5 for _ in range(draws)) / draws
        assert beats_runner_up([first, second]) == pytest.approx(above, abs=5 / (2 * math.sqrt(draws)))


def _exact_mode(counts: list[int], unseen: bool) -> float:
    """E[prod_i F_i(X)], X ~ Gamma(v1 + 1), the product multiplied out into x^i e^(-n x) and integrated exactly."""
    first, *others = sorted(counts, reverse=True)
    terms = {(0, 0): Fraction(1)}
    for count in [*others, *([0] if unseen else [])]:
        new = dict(terms)
        for (n, i), coefficient in terms.items():
            for j in range(count + 1):
                key = (n + 1, i + j)
                new[key] = new.get(key, Fraction(0)) - coefficient / math.factorial(j)
        terms = new
    f = math.factorial
    return float(sum(c * Fraction(f(first + i), f(first)) / (n + 1) ** (first + 1 + i) for (n, i), c in terms.items()))


@given(small_counts, st.booleans())
def test_the_dirichlet_rule_is_accurate(counts: list[int], unseen: bool) -> None:
    assert is_mode(counts, unseen) == pytest.approx(_exact_mode(counts, unseen), abs=1e-9)


@given(st.integers(0, 3000), st.integers(0, 3000))
@settings(max_examples=30)
def test_the_dirichlet_rule_of_two_is_the_beta_rule(first: int, second: int) -> None:
    assert is_mode([first, second], unseen=False) == pytest.approx(beats_runner_up([first, second]), abs=1e-9)


@cache
def _urn(counts: tuple[int, ...], remaining: int) -> tuple[Fraction, tuple[Fraction, ...]]:
    """By Pólya's urn: the chance that the first no longer leads alone, and that each rival draws level with it."""
    if remaining == 0:
        level = tuple(Fraction(other >= counts[0]) for other in counts[1:])
        return Fraction(any(level)), level
    lost, each = Fraction(0), [Fraction(0)] * (len(counts) - 1)
    for i, count in enumerate(counts):
        chance = Fraction(count + 1, sum(counts) + len(counts))
        sub_lost, sub_each = _urn((*counts[:i], count + 1, *counts[i + 1 :]), remaining - 1)
        lost += chance * sub_lost
        each = [a + chance * b for a, b in zip(each, sub_each, strict=True)]
    return lost, tuple(each)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=3), st.integers(1, 6), st.booleans())
@settings(max_examples=60)
def test_the_chance_of_losing_is_exact_or_bounds_from_above(counts: list[int], remaining: int, unseen: bool) -> None:
    votes = (*sorted(counts, reverse=True), *((0,) if unseen else ()))
    lost, each = _urn(votes, remaining)
    found = chance_of_losing(counts, remaining, unseen)
    assert found == pytest.approx(min(1.0, float(sum(each))), abs=1e-9)
    assert found >= float(lost) - 1e-9
    if len(votes) <= 2:
        assert found == pytest.approx(float(lost), abs=1e-9)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(1, 30), st.floats(0.001, 1))
def test_what_is_more_than_enough_need_not_be_exact(counts: list[int], remaining: int, enough: float) -> None:
    exact, found = chance_of_losing(counts, remaining), chance_of_losing(counts, remaining, enough=enough)
    assert found == exact if exact <= enough else enough < found <= exact


@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(0, 30))
def test_rules_agree_where_the_vote_is_over(counts: list[int], remaining: int) -> None:
    assert 0 <= chance_of_losing(counts, remaining) <= 1
    assert 0 <= is_mode(counts) <= beats_runner_up(counts) + 1e-9
    if cannot_change(counts, remaining):
        assert chance_of_losing(counts, remaining) == pytest.approx(0, abs=1e-12)


def test_without_votes_nothing_is_known() -> None:
    assert beats_runner_up([]) == 0.5
    assert is_mode([]) == 0.0
    assert chance_of_losing([], 3) == 1.0
    assert not cannot_change([], 1)
    assert cannot_change([1, 0], 0)
