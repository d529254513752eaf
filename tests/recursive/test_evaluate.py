from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from fathom.recursive.evaluate import bootstrap, evaluate, vote, wilson
from fathom.recursive.model import RecursiveModel
from fathom.recursive.tasks.queens import Queens


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_encloses_the_share_and_stays_within_bounds(trial: tuple[int, int]) -> None:
    estimate = wilson(*trial)
    assert 0 <= estimate.low <= estimate.value + 1e-9
    assert estimate.value - 1e-9 <= estimate.high <= 1
    assert estimate.high - estimate.low > 0


def test_wilson_of_the_textbook() -> None:
    estimate = wilson(8, 10)
    assert (round(estimate.low, 3), round(estimate.high, 3)) == (0.490, 0.943)


def test_bootstrap_narrows_with_the_number_of_inputs() -> None:
    few, many = (bootstrap(torch.linspace(0, 1, n)) for n in (20, 2000))
    assert many.high - many.low < few.high - few.low
    assert few.low <= 0.5 <= few.high
    assert bootstrap(torch.ones(50)) == wilson(50, 50)


def test_the_vote_goes_to_the_most_frequent_and_a_tie_to_the_higher_score() -> None:
    assert vote([b"a", b"b", b"b"], [0.9, 0.1, 0.2]) == 2
    assert vote([b"a", b"b"], [0.1, 0.2]) == 1
    assert vote([b"a", b"b"], [0.1, 0.1]) == 0


def test_the_plane_is_ordered_and_the_same_for_one_seed(queens: Queens, model: RecursiveModel) -> None:
    x = queens.inputs("test")[:6]
    points = evaluate(model, queens, x, depths=[1, 2], widths=[1, 4], seed=3)
    assert [(p.depth, p.width) for p in points] == [(1, 1), (1, 4), (2, 1), (2, 4)]
    assert points == evaluate(model, queens, x, depths=[1, 2], widths=[1, 4], seed=3)
    for point in points:
        assert point.verifier.value >= max(point.vote.value, point.value.value, point.halt.value)
        assert point.attainable.value >= point.coverage.value
        # Where all samples agree, there is nothing to choose.
        assert (point.disputed_vote is None) == (point.disputed_value is None) == (point.disputed == 0)
        if point.disputed_vote is not None and point.disputed_value is not None:
            lost = point.vote.value - point.value.value
            lost_where_disputed = point.disputed_vote.value - point.disputed_value.value
            assert abs(lost * 6 - lost_where_disputed * point.disputed) < 1e-9
        assert point.width > 1 or point.disputed == 0
