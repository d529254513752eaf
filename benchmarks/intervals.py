"""The lab's intervals as the benchmark tables print them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fathom.lab.statistics import paired_difference, wilson


def paired(differences: Sequence[float]) -> tuple[float, float, float]:
    """The mean of per-question differences with its 95 % interval."""
    found = paired_difference(np.asarray(differences, float), np.zeros(len(differences)))
    return found.value, found.low, found.high


def share(successes: int, n: int) -> str:
    """A share with its Wilson interval, in percent."""
    found = wilson(successes, n)
    return f"{found.value:6.1%}  [{found.low:.1%}, {found.high:.1%}]"
