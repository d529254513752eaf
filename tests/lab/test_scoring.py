"""Scoring all draws at a time comes, on every single draw, to what the search itself comes to on it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from fathom.api import strategy_of
from fathom.errors import UsageError
from fathom.lab.pool import Pool
from fathom.lab.replay import replay
from fathom.lab.scoring import baselines, default_strategies, powers, score

JUDGED = "exact(reference=45, tolerance=0.4)"
STRATEGIES = [
    "vote(stop=never)",
    "vote",
    "vote(wave=1)",
    "vote(stop=never, greedy=true)",
    "vote(greedy=true)",
    "vote(wave=1, greedy=true)",
    "best-of-n(greedy=true)",
    "best-of-n(greedy=true, weighted=true)",
    "vote(stop=beta, sure=0.8)",
    "vote(stop=dirichlet, sure=0.7)",
    "vote(stop=certain)",
    "first",
    "first(of=2)",
    "best-of-n",
    "best-of-n(weighted=true)",
    "best-of-n(judge=logprob)",
    "best-of-n(judge=self-certainty)",
    "best-of-n(judge=self-certainty, weighted=true)",
    f"best-of-n(judge={JUDGED})",
    f"best-of-n(judge={JUDGED}, weighted=true)",
]


@pytest.mark.parametrize("depth", [None, 8])
def test_it_agrees_with_the_search_on_every_draw(depth: int | None, pools: Callable[..., list[Pool]]) -> None:
    (pool,) = pools(count=4, samples=6, depths=(depth,), judges=("self-certainty", JUDGED))
    for spec in STRATEGIES:
        for k in (2, 5):
            (point,) = score(pool, [strategy_of(spec)], [k])
            assert point.draws == 0  # so few samples that every draw was scored
            orders = list(itertools.combinations(range(6), k))
            if "greedy" in spec:
                orders = [(-1, *others) for others in itertools.combinations(range(6), k - 1)]
            for q in range(len(pool)):
                plays = [replay(strategy_of(spec), pool, q, width=k, order=order) for order in orders]
                assert point.right[q] == pytest.approx(np.mean([p.score >= 1 for p in plays])), (spec, k, q)
                assert point.tokens[q] == pytest.approx(np.mean([p.tokens for p in plays])), (spec, k, q)
                assert point.steps[q] == pytest.approx(np.mean([p.steps for p in plays])), (spec, k, q)
                assert point.confidence[q] == pytest.approx(np.mean([p.confidence for p in plays])), (spec, k, q)


def test_the_baselines_are_what_they_are_called(pools: Callable[..., list[Pool]]) -> None:
    (pool,) = pools(count=20, samples=9)
    points = {(p.strategy, p.width): p for p in baselines(pool)}
    right = pool.samples.right
    assert points["sample", 1].right == pytest.approx(right.mean(1))
    assert points["majority", 1].right == pytest.approx(points["oracle", 1].right)
    assert points["oracle", 9].right.tolist() == right.max(1).tolist()
    assert points["greedy", 1].right.tolist() == pool.greedy.right[:, 0].tolist()
    tokens = pool.samples.tokens
    assert points["majority", 4].tokens == pytest.approx(4 * tokens.mean(1))
    slowest = [np.mean([max(t[i] for i in d) for d in itertools.combinations(range(9), 4)]) for t in tokens.tolist()]
    assert points["majority", 4].steps == pytest.approx(slowest)
    for k in powers(9):
        assert (points["majority", k].right <= points["oracle", k].right + 1e-12).all()


def test_no_strategy_beats_the_oracle_and_random_draws_are_near_all_of_them(pools: Callable[..., list[Pool]]) -> None:
    (pool,) = pools(count=20, samples=8)
    oracle = {p.width: p for p in baselines(pool) if p.strategy == "oracle"}
    every = {(p.strategy, p.width): p for p in score(pool, draws=70)}
    assert {p.draws for p in every.values()} == {0}
    for point in score(pool, draws=60):
        exact = every[point.strategy, point.width]
        if point.width > 1 and "greedy" not in point.strategy:  # the oracle knows of what is drawn
            assert (exact.right <= oracle[point.width].right + 1e-12).all()
        assert point.right.mean() == pytest.approx(exact.right.mean(), abs=0.1)


def test_what_cannot_be_scored_is_refused(pools: Callable[..., list[Pool]]) -> None:
    (pool,) = pools(count=3, samples=4)
    assert len(default_strategies(pool)) > 8
    for spec, why in (("vote(at_least=9)", "steers"), ("vote(depth=3)", "depth"), ("beam(judge=logprob)", "steers")):
        with pytest.raises(UsageError, match=why):
            score(pool, [strategy_of(spec)], [4])
    with pytest.raises(UsageError, match="more than the 4 samples"):
        score(pool, [strategy_of("vote")], [5])
