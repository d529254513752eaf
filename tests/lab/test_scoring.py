"""Scoring all draws at a time comes, on every single draw, to what the search itself comes to on it."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.api import strategy_of
from fathom.errors import UsageError
from fathom.lab.pool import Columns, Graded, Pool
from fathom.lab.records import GREEDY, SweepInfo, Terms
from fathom.lab.replay import replay
from fathom.lab.scoring import baselines, default_strategies, orders, powers, score

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
    "best-of-n(judge=logprob, greedy=true)",
    "best-of-n(judge=self-certainty, greedy=true, weighted=true)",
    f"best-of-n(judge={JUDGED}, greedy=true)",
    f"best-of-n(judge={JUDGED}, wave=1)",
    f"best-of-n(judge={JUDGED}, wave=1, greedy=true)",
    f"best-of-n(judge={JUDGED}, wave=1, greedy=true, weighted=true)",
]


def check_agreement(pool: Pool, spec: str, k: int) -> None:
    """The point of a strategy against the search itself, draw by draw."""
    (point,) = score(pool, [strategy_of(spec)], [k])
    greedy = "greedy" in spec
    drawn, exact = orders(pool.width, k - greedy)
    assert point.draws == (0 if exact else len(drawn))
    played = [[*([GREEDY] * greedy), *order] for order in drawn.tolist()]
    for q in range(len(pool)):
        plays = [replay(strategy_of(spec), pool, q, width=k, order=order) for order in played]
        assert point.plays.right[q].tolist() == [p.score >= 1 for p in plays], (spec, k, q)
        assert point.plays.steps[q].tolist() == [p.steps for p in plays], (spec, k, q)
        assert point.plays.verdicts[q].tolist() == [p.verdicts for p in plays], (spec, k, q)
        for name in ("tokens", "confidence"):
            mean = np.mean([getattr(p, name) for p in plays])
            assert getattr(point, name)[q] == pytest.approx(mean), (spec, k, q, name)
        assert point.started[q] == pytest.approx(np.mean([p.width for p in plays])), (spec, k, q)


@pytest.mark.parametrize("depth", [None, 8])
def test_it_agrees_with_the_search_on_every_draw(depth: int | None, pools: Callable[..., list[Pool]]) -> None:
    (pool,) = pools(count=4, samples=6, depths=(depth,), judges=("self-certainty", JUDGED))
    for spec in STRATEGIES:
        for k in (2, 5):
            check_agreement(pool, spec, k)


@pytest.mark.slow
@given(st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_it_agrees_where_a_model_knows_what_is_wrong(seed: int) -> None:
    """A recursive model's boards: many are over at the same step, and of some it is certain that they are wrong."""
    pool = recursive_pool(seed)
    ways = ("", ", weighted=true", ", greedy=true", ", wave=1, greedy=true")
    judged = [f"best-of-n(judge={judge}{way})" for judge in pool.verdicts for way in ways]
    for spec in ("first", "first(of=2)", "vote", "vote(wave=1)", "best-of-n", *judged):
        check_agreement(pool, spec, 4)


def recursive_pool(seed: int, questions: int = 3, samples: int = 6) -> Pool:
    """Trajectories as a recursive model leaves them, some cut, some refuted by the model, with judges' words."""
    rng = np.random.default_rng(seed)
    shape = (questions, samples + 1)
    code = rng.integers(0, 4, shape)
    valid = rng.choice([0.0, 1.0, np.nan], shape)
    table = Columns(
        code=code,
        score=(valid == 1).astype(float),
        steps=rng.integers(1, 5, shape),
        conclusion=np.zeros(shape, int),
        seconds=np.ones(shape),
        logprob=-rng.random(shape),
        value=rng.integers(0, 9, shape) / 8,  # sums of which are exact: ties are ties
        valid=valid,
        parsed=rng.random(shape) < 0.8,
        finished=rng.random(shape) < 0.8,
        answer=code.astype(str).astype(object),
        reason=np.full(shape, "stop", dtype=object),
    )
    samples_, greedy = table.rows((slice(None), slice(1, None))), table.rows((slice(None), slice(0, 1)))
    told = rng.random(shape) < rng.random()  # by the others nothing was said
    passed = np.where(told & (rng.random(told.shape) < 0.1), rng.integers(0, 2, told.shape), -1)
    facts = {"unit": "supervision step", "unit_flops": 1e6}
    by = {"value": passed, "self-certainty": np.full(told.shape, -1)}  # one that passes, one that only grades
    return Pool(
        sweep=SweepInfo(1, "boards", Terms("m", "", "", "", "", "d", seed), facts),
        depth=None,
        questions=tuple(range(questions)),
        samples=samples_,
        greedy=greedy,
        keys=(("0", "1", "2", "3"),) * questions,
        prompt_tokens=np.zeros(questions, int),
        verdicts={judge: Graded(np.where(told, samples_.beside(greedy).value, np.nan), of) for judge, of in by.items()},
    )


def test_orders_are_all_of_them_or_say_that_they_are_not() -> None:
    drawn, exact = orders(5, 2)
    assert exact
    assert sorted(map(tuple, drawn.tolist())) == list(itertools.permutations(range(5), 2))
    for n, k in ((6, 6), (6, 5), (40, 7)):
        drawn, exact = orders(n, k)
        assert not exact
        assert all(len(set(order)) == k for order in drawn.tolist())
        if n == 6:  # every set as often as any other, and not in one order only
            sets = Counter(tuple(sorted(order)) for order in drawn.tolist())
            assert len(sets) == math.comb(n, k)
            assert len(set(sets.values())) == 1
            assert len(set(map(tuple, drawn.tolist()))) > len(sets)


def test_a_vote_one_at_a_time_depends_on_its_order_and_is_not_said_to_be_exact() -> None:
    pool = recursive_pool(0, questions=40)
    (point,) = score(pool, [strategy_of("vote(wave=1)")], [6])
    assert point.draws > 0
    assert (np.ptp(point.plays.steps, axis=1) > 0).any()


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
    every = {(p.strategy, p.width): p for p in score(pool, draws=70)}  # each set of up to 4 of 8 as often as any other
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
