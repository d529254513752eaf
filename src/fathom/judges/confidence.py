"""How sure a model was along one of its outputs, as one figure: the mean over all tokens, over the last ones, or over
the weakest stretch (Fu et al., DeepConf, arXiv 2508.15260). A chain of thought goes wrong in one place, which a mean
over thousands of tokens hides and the lowest group of neighbouring tokens shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

from fathom.errors import SpecError

__all__ = ["Stretch", "check", "over"]

Stretch = Literal["mean", "tail", "group", "bottom"]


def over(values: Sequence[float], stretch: Stretch, window: int, share: float = 0.1) -> float:
    """The figure of a stretch of per-token values, of which there must be at least one.

    ``mean`` is over all; ``tail`` over the last ``window``; ``group`` the lowest mean of ``window`` neighbours, and
    ``bottom`` the mean of the lowest ``share`` of those group means, at least one. Fewer values than a window are one
    group. It takes time in proportion to the values (and for ``bottom`` their sorting).
    """
    n = len(values)
    size = min(window, n)
    if stretch == "mean" or size == n:
        return math.fsum(values) / n
    if stretch == "tail":
        return math.fsum(values[-size:]) / size
    sums = list(accumulate(values, initial=0.0))
    groups = [(sums[end] - sums[end - size]) / size for end in range(size, n + 1)]
    if stretch == "group":
        return min(groups)
    lowest = sorted(groups)[: max(1, int(share * len(groups)))]
    return math.fsum(lowest) / len(lowest)


def check(judge: str, window: int, share: float) -> None:
    """Raises SpecError for a window or share that makes no sense."""
    if window < 1:
        raise SpecError(f"{judge}(window=…) must be at least 1 token, not {window!r}")
    if not 0 < share <= 1:
        raise SpecError(f"{judge}(share=…) must lie above 0 and be at most 1, not {share!r}")
