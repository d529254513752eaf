"""How often an exchange rate is stated that there is not, and that there is.

    OMP_NUM_THREADS=1 python benchmarks/lab_rates.py

A smaller model has 80 points, half of them equally good, whose answers are correlated with one another; its greedy
answer is right on half of the questions. The larger one is right on 85 %. The good points truly are ten points short of
that, or seven points ahead. Beside it, in the same run: choosing the cheapest sufficient point on the very questions
that it is counted on, and stating its rate where 90 % of bootstrap resamples have any.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from statistics import NormalDist

import numpy as np
from lab_scoring import simulated

from fathom.lab.compare import Contender
from fathom.lab.pool import Pool
from fathom.lab.rates import exchange
from fathom.lab.scoring import Plays, Point
from fathom.lab.statistics import FloatArray

POINTS, GREEDY, LARGER = 80, 0.5, 0.85


def answered(shares: FloatArray, common: FloatArray, correlation: float, rng: np.random.Generator) -> FloatArray:
    """Whether each of as many points as there are ``shares`` is right on each question, (Q, P): a Gaussian copula."""
    own = rng.normal(size=(len(common), len(shares)))
    latent = np.sqrt(correlation) * common[:, None] + np.sqrt(1 - correlation) * own
    return np.asarray(latent < [NormalDist().inv_cdf(share) for share in shares], float)


def contender(name: str, size: float, pool: Pool, right: FloatArray) -> Contender:
    """A model with one point a column, the first the greedy one, each dearer than the one before."""
    points = []
    for at, column in enumerate(right.T):
        cost = np.full(len(pool), 20.0 * (1 + at / 5))
        plays = Plays.of(column[:, None], cost[:, None])
        strategy = "vote" if at else "greedy"
        points.append((pool, Point(strategy, 1 + at, column, cost, cost, column, cost, plays, 1, 1)))
    return Contender(name, size, (pool,), tuple(points))


def on_the_same(small: FloatArray, larger: FloatArray, rng: np.random.Generator, resamples: int = 500) -> bool:
    """Whether a rate is stated where points are chosen on the questions that they are counted on."""
    q = len(larger)
    drawn = rng.multinomial(q, np.full(q, 1 / q), size=resamples)
    ahead = small - larger[:, None]
    return bool((ahead.mean(0) >= 0).any() and ((drawn @ ahead) >= 0).any(1).mean() >= 0.9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=200)
    worlds = parser.parse_args().worlds
    print(f"{'questions':>9} {'truly':>8} {'correlation':>11} {'stated':>8} {'on the same questions':>22}")
    for questions in (60, 120):
        pool = replace(simulated(questions, 1, seed=0), prompt_tokens=np.zeros(questions, int))
        for best in (0.75, 0.92):
            shares = np.array([GREEDY, *np.linspace(GREEDY, best, POINTS // 2), *[best] * (POINTS // 2)])
            for correlation in (0.5, 0.9):
                rng = np.random.default_rng(1)
                ours = theirs = 0
                for _ in range(worlds):
                    common = rng.normal(size=questions)
                    small = answered(shares, common, correlation, rng)
                    large = answered(np.array([LARGER]), common, 0.5, rng)
                    pair = contender("small", 1, pool, small), contender("large", 2, pool, large)
                    rate = exchange(*pair, "flops", resamples=50)
                    ours += rate is not None and rate.rate is not None
                    theirs += on_the_same(small, large[:, 0], rng)
                said = f"{100 * (best - LARGER):+.0f} pts"
                print(f"{questions:9} {said:>8} {correlation:11} {ours / worlds:8.1%} {theirs / worlds:22.1%}")


if __name__ == "__main__":
    main()
