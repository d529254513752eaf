"""The lab's intervals as the benchmark tables print them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fathom.lab.statistics import mean_interval, paired_difference, wilson


def paired(differences: Sequence[float]) -> tuple[float, float, float]:
    """The mean of per-question differences with its 95 % interval."""
    found = paired_difference(np.asarray(differences, float), np.zeros(len(differences)))
    return found.value, found.low, found.high


def share(successes: int, n: int) -> str:
    """A share with its Wilson interval, in percent."""
    found = wilson(successes, n)
    return f"{found.value:6.1%}  [{found.low:.1%}, {found.high:.1%}]"


def mean(values: Sequence[float]) -> str:
    """The mean of what each question scored, with its interval, in percent: Wilson's where each is right or wrong."""
    if all(value in (0, 1) for value in values):
        return share(int(sum(values)), len(values))
    found = mean_interval(np.asarray(values, float))
    return f"{found.value:6.1%}  [{found.low:.1%}, {found.high:.1%}]"
