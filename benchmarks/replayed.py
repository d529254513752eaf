"""What width buys, and what stopping early saves: strategies replayed on a sweep, against the fixed majority of 16.

    fathom sweep embedded arithmetic:60 -o runs/arith --samples 16 --seed 2026
    python benchmarks/replayed.py runs/arith

    fathom sweep embedded human-eval -o runs/code --questions 120 --samples 8 --depth 320 --judge tests --seed 2026
    python benchmarks/replayed.py runs/code

Differences are paired by question, with 95 % intervals over questions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fathom.api import strategy_of
from fathom.lab.pool import load_all
from fathom.lab.scoring import baselines, score
from fathom.lab.statistics import mean_intervals, paired_difference
from fathom.lab.summary import seconds_of

STRATEGIES = (
    "vote(stop=never, greedy=true)",
    "vote",
    "vote(greedy=true)",
    "vote(wave=1, greedy=true)",
    "vote(wave=1, stop=beta, sure=0.8)",
    "vote(wave=1, stop=beta, sure=0.8, greedy=true)",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    for pool in load_all(parser.parse_args().directory):
        ways = ("", ", greedy=true", ", wave=1, greedy=true")
        strategies = [*STRATEGIES, *(f"best-of-n(judge={judge}{way})" for judge in pool.verdicts for way in ways)]
        points = [*baselines(pool), *score(pool, [strategy_of(spec) for spec in strategies])]
        majority = next(p for p in points if p.strategy == "majority" and p.width == pool.width)
        print(f"{pool.sweep.name}, depth {pool.depth}: {len(pool)} questions, against the majority of {pool.width}")
        print(f"{'':50}{'width':>6}{'right':>25}{'tokens':>8}{'saved':>7}{'s (median)':>11}   difference, paired")
        for point, right in zip(points, mean_intervals(np.stack([p.right for p in points], axis=1)), strict=True):
            saved = 1 - point.tokens.sum() / majority.tokens.sum()
            seconds = float(np.median(seconds_of(pool, point)))
            difference = paired_difference(point.right, majority.right).signed
            figures = (
                f"{point.width:6}{right!s:>25}{point.tokens.mean():8.0f}{saved:7.0%}{seconds:11.1f}   {difference}"
            )
            print(f"{point.strategy:50}{figures}")


if __name__ == "__main__":
    main()
