"""Do the lab's 95 % intervals cover 95 %? Data with known truth, drawn 2,000 times over.

    python benchmarks/lab_intervals.py

The reach is 93 to 97 %. A question's chance of a right sample is Beta(0.8, 0.5), or 0 for one question in ten; what is
estimated are means over all questions that there could be, so each repetition draws new questions and new samples. For
comparison, the interval that pretends trajectories to be independent of one another (Wilson's over all of them), which
tables of results often have.
"""

from __future__ import annotations

import argparse

import numpy as np

from fathom.lab.statistics import Interval, mean_interval, paired_difference, passes_at_k, wilson

ZERO, A, B = 0.1, 0.8, 0.5
WIDTH = 16


def chances(rng: np.random.Generator, questions: int) -> np.ndarray:
    return np.where(rng.random(questions) < ZERO, 0.0, rng.beta(A, B, questions))


def truths(rng: np.random.Generator) -> dict[str, float]:
    """What the intervals are to cover, from two million questions: greedy is right where the chance is above a half
    but for noise, and the better strategy has a chance p of twice or thrice as many tries."""
    p = chances(rng, 2_000_000)
    better = 1 - (1 - p) ** 1.3
    return {
        "share of questions (greedy)": float(p.mean()),
        "mean over questions (accuracy of samples)": float(p.mean()),
        "pass@4": float((1 - (1 - p) ** 4).mean()),
        "paired difference of two greedy answers": float((better - p).mean()),
        "paired difference of two means": float((better - p).mean()),
        "pretending independence": float(p.mean()),
    }


def intervals(rng: np.random.Generator, questions: int, seed: int) -> dict[str, Interval]:
    p = chances(rng, questions)
    better = 1 - (1 - p) ** 1.3
    right = rng.random((questions, WIDTH)) < p[:, None]
    others = rng.random((questions, WIDTH)) < better[:, None]
    n, correct = np.full(questions, WIDTH), right.sum(1).astype(int)
    greedy, other = right[:, 0].astype(float), others[:, 0].astype(float)
    return {
        "share of questions (greedy)": mean_interval(greedy, seed=seed),
        "mean over questions (accuracy of samples)": mean_interval(right.mean(1), seed=seed),
        "pass@4": mean_interval(passes_at_k(n, correct, 4), seed=seed),
        "paired difference of two greedy answers": paired_difference(other, greedy, seed=seed),
        "paired difference of two means": paired_difference(others.mean(1), right.mean(1), seed=seed),
        "pretending independence": wilson(float(right.sum()), right.size),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--questions", type=int, nargs="+", default=[30, 100, 300])
    options = parser.parse_args()
    rng = np.random.default_rng(2026)
    truth = truths(rng)
    print(f"{options.repetitions} repetitions; coverage of 95 % intervals, reach 93 to 97 %\n")
    print(f"{'':44}" + "".join(f"{f'{q} questions':>15}" for q in options.questions))
    covered = {name: [0] * len(options.questions) for name in truth}
    for at, questions in enumerate(options.questions):
        for repetition in range(options.repetitions):
            for name, interval in intervals(rng, questions, repetition).items():
                covered[name][at] += interval.low <= truth[name] <= interval.high
    for name, counts in covered.items():
        print(f"{name:44}" + "".join(f"{count / options.repetitions:>15.1%}" for count in counts))


if __name__ == "__main__":
    main()
