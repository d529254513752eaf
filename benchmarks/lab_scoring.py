"""How long it takes to score a pool of 1,000 questions × 64 trajectories under every strategy and width, on one core.

    OMP_NUM_THREADS=1 python benchmarks/lab_scoring.py

The reach is 10 s. Trajectories are simulated: a question's chance of the right answer is Beta(0.7, 1), its wrong ones
are shared by a handful of answers, lengths are log-normal and longer where the answer is wrong. Times are CPU seconds
of this process, so that other work on the machine does not show. For comparison, the same strategies at width 16 are
played one draw at a time by their own searches on a few questions, and extrapolated to all of them.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from fathom.lab.pool import Columns, Pool
from fathom.lab.records import SweepInfo, Terms
from fathom.lab.replay import replay
from fathom.lab.scoring import DRAWS, baselines, default_strategies, powers, score


def simulated(questions: int, width: int, seed: int) -> Pool:
    """A pool as a sweep would have left it."""
    rng = np.random.default_rng(seed)
    chance = rng.beta(0.7, 1.0, questions)[:, None]
    n = width + 1
    right = rng.random((questions, n)) < chance
    code = np.where(right, 0, 1 + np.minimum(rng.geometric(0.35, (questions, n)), 12))
    code = np.where(rng.random((questions, n)) < 0.02, -1, code)
    steps = np.exp(rng.normal(4.0 + 0.3 * ~right, 0.4)).astype(int) + 4
    table = Columns(
        code=code,
        score=(code == 0).astype(float),
        steps=steps,
        conclusion=np.zeros_like(steps),
        seconds=steps / 30.0,
        logprob=rng.normal(-0.3 - 0.1 * ~right, 0.1),
        value=np.full(code.shape, np.nan),
        valid=np.full(code.shape, np.nan),
        parsed=np.ones(code.shape, bool),
        finished=np.ones(code.shape, bool),
        answer=code.astype(str).astype(object),
        reason=np.full(code.shape, "stop", dtype=object),
    )
    return Pool(
        sweep=SweepInfo(1, "simulated", Terms("m", "", "", "", "", "simulated", seed), {"parameters": 5e8}),
        depth=None,
        questions=tuple(range(questions)),
        samples=table.rows((slice(None), slice(1, None))),
        greedy=table.rows((slice(None), slice(0, 1))),
        keys=tuple(tuple(map(str, range(14))) for _ in range(questions)),
        prompt_tokens=np.full(questions, 80),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--width", type=int, default=64)
    options = parser.parse_args()
    pool = simulated(options.questions, options.width, seed=1)
    started = time.process_time()
    points = baselines(pool)
    print(f"baselines, exact: {time.process_time() - started:6.2f} s")
    strategies = default_strategies(pool)
    for width in powers(pool.width):
        began = time.process_time()
        points += score(pool, strategies, [width])
        print(f"{len(strategies)} strategies at width {width:3}: {time.process_time() - began:6.2f} s")
    whole = time.process_time() - started
    print(f"all: {whole:.1f} s for {len(points)} points of up to {DRAWS} draws; the reach is 10 s")
    began, played = time.process_time(), 0
    for strategy in default_strategies(pool):
        for q in range(4):
            replay(strategy, pool, q, width=16)
            played += 1
    each = (time.process_time() - began) / played
    draws = len(points) * options.questions * DRAWS
    print(f"one draw at a time by the searches themselves: {1e3 * each:.2f} ms, {each * draws / 3600:.1f} h for all")


if __name__ == "__main__":
    main()
