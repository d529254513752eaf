"""Estimators against enumeration, against closed forms, and against the laws that they must keep."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.lab.coverage import CoverageFit, fit_coverage, held_out
from fathom.lab.statistics import (
    majority_at_k,
    mean_interval,
    mean_intervals,
    paired_difference,
    pass_at_k,
    passes_at_k,
    questions_to_settle,
    wilson,
)


@given(st.integers(1, 40), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(n: int, data: st.DataObject) -> None:
    correct, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    expected = 1 - math.comb(n - correct, k) / math.comb(n, k)
    assert pass_at_k(n, correct, k) == pytest.approx(expected, abs=1e-12)
    assert passes_at_k(np.array([n]), np.array([correct]), k)[0] == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 12), st.integers(1, 5))
def test_pass_at_more_than_there_are_is_undefined_even_when_all_are_right(n: int, more: int) -> None:
    assert pass_at_k(n, n, n + more) is None
    assert np.isnan(passes_at_k(np.array([n, n + more]), np.array([n, n + more]), n + more)).tolist() == [True, False]


def test_pass_at_k_of_what_cannot_be_is_refused() -> None:
    for n, correct, k in ((4, 5, 1), (4, -1, 1), (4, 2, 0)):
        with pytest.raises(ValueError, match="makes no sense"):
            pass_at_k(n, correct, k)


def by_enumeration(counts: list[int], right: list[bool], blank: int) -> list[float]:
    pool = [i for i, count in enumerate(counts) for _ in range(count)] + [-1] * blank
    shares = []
    for k in range(1, len(pool) + 1):
        total, draws = 0.0, 0
        for drawn in itertools.combinations(pool, k):
            draws += 1
            votes = [drawn.count(i) for i in range(len(counts))]
            leaders = [i for i, v in enumerate(votes) if v == max(votes) > 0]
            total += sum(right[i] for i in leaders) / max(1, len(leaders))
        shares.append(total / draws)
    return shares


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=5), st.integers(0, 2))
def test_majority_at_k_is_the_average_over_all_draws(answers: list[tuple[int, bool]], blank: int) -> None:
    counts, right = [c for c, _ in answers], [r for _, r in answers]
    if sum(counts) + blank in range(1, 11):
        assert majority_at_k(counts, right, blank) == pytest.approx(by_enumeration(counts, right, blank), abs=1e-12)


def test_majority_at_one_is_the_share_of_right_ones_and_at_all_the_leader() -> None:
    curve = majority_at_k([40, 10, 10, 4], [True, False, False, False])
    assert curve[0] == pytest.approx(40 / 64)
    assert curve[-1] == pytest.approx(1.0)
    assert (np.diff(curve[::2]) > -1e-12).all()
    assert majority_at_k([10, 54], [True, False])[-1] == 0


@given(st.integers(1, 400), st.data())
def test_wilson_holds_the_share_and_mirrors(n: int, data: st.DataObject) -> None:
    x = data.draw(st.integers(0, n))
    found, mirrored = wilson(x, n), wilson(n - x, n)
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1
    assert (found.low, found.high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low))


def test_a_share_of_ones_only_still_has_an_interval() -> None:
    found = mean_interval(np.ones(20))
    assert found.value == 1
    assert 0.8 < found.low < 0.9


def test_columns_share_resamples_and_leave_out_questions_that_know_nothing() -> None:
    rng = np.random.default_rng(random.SystemRandom().randrange(10**6))
    values = rng.random((50, 3))
    one, two = mean_intervals(values[:, :1])[0], mean_intervals(values)[0]
    assert (one.low, one.high) == pytest.approx((two.low, two.high))
    values[0, 0] = np.nan
    assert mean_intervals(values)[0].value == pytest.approx(values[1:, 0].mean())


def test_a_paired_difference_mirrors_and_is_narrower_than_the_two_apart() -> None:
    rng = np.random.default_rng(random.SystemRandom().randrange(10**6))
    hard = rng.random(300)
    a, b = (hard > 0.4).astype(float), (hard > 0.5).astype(float)
    found, back = paired_difference(a, b), paired_difference(b, a)
    assert (found.low, found.high) == pytest.approx((-back.high, -back.low))
    assert found.low > 0
    assert found.high - found.low < wilson(a.sum(), 300).high - wilson(a.sum(), 300).low


def test_two_that_never_differed_are_not_said_to_be_equal() -> None:
    same = paired_difference(np.ones(30), np.ones(30))
    assert same.value == 0
    assert same.low < -0.03 < 0.03 < same.high
    assert questions_to_settle(np.zeros(30)) is None


def test_it_takes_four_times_the_questions_for_half_the_difference() -> None:
    differences = np.array([1.0] * 12 + [-1.0] * 8 + [0.0] * 80)
    halved = np.concatenate([differences, np.array([1.0] * 10 + [-1.0] * 10 + [0.0] * 80)])
    few, many = questions_to_settle(differences), questions_to_settle(halved)
    assert few is not None
    assert many is not None
    assert many / few == pytest.approx(4, rel=0.05)
    assert few == pytest.approx((2.8016 / 0.04) ** 2 * np.var(differences, ddof=1), rel=0.01)


def test_a_fit_of_coverage_finds_what_was_planted_and_predicts_what_it_did_not_see() -> None:
    rng = np.random.default_rng(random.SystemRandom().randrange(10**6))
    truth = CoverageFit(0.2, 0.6, 1.8)
    questions = 20_000
    chance = np.where(rng.random(questions) < truth.zero, 0, rng.beta(truth.a, truth.b, questions))
    correct = (rng.random((questions, 64)) < chance[:, None]).astype(float)
    fit = fit_coverage(np.full(questions, 64), correct.sum(1).astype(int))
    assert fit.pass_at([1, 8, 64, 512]) == pytest.approx(truth.pass_at([1, 8, 64, 512]), abs=0.03)
    out = held_out(correct)
    assert out is not None
    assert (out.seen, out.k) == (16, (32, 64))
    assert out.error < 0.04
    assert held_out(correct[:, :4]) is None


def test_pass_at_one_of_a_fit_is_its_mean() -> None:
    fit = CoverageFit(0.25, 2.0, 6.0)
    assert fit.pass_at([1])[0] == pytest.approx(0.75 * 0.25)
    assert fit.pass_at([10**9])[0] == pytest.approx(0.75)
