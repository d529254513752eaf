"""How sure a model was along one of its outputs, as one figure: the mean over all tokens, over the last ones, or over
the weakest stretch (Fu et al., DeepConf, arXiv 2508.15260). A chain of thought goes wrong in one place, which a mean
over thousands of tokens hides and the lowest group of neighbouring tokens shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, Literal

from fathom.errors import SpecError
from fathom.judges.base import EachVerifier, Timing
from fathom.specs import option

__all__ = ["Stretch", "StretchJudge", "over"]

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


@dataclass(frozen=True)
class StretchJudge(EachVerifier):
    """What judges by the model's own confidence have in common: over which stretch of a candidate it is taken."""

    timing: ClassVar[Timing] = Timing.DIFFERING

    of: Stretch = option("mean", "mean of all tokens, of the tail, of the lowest group, or of the bottom groups")
    window: int = option(2048, "tokens of the tail, and of a group")
    share: float = option(0.1, "the share of the lowest groups that bottom takes")

    def __post_init__(self) -> None:
        if self.window < 1:
            raise SpecError(f"{self.name}(window=…) must be at least 1 token, not {self.window!r}")
        if not 0 < self.share <= 1:
            raise SpecError(f"{self.name}(share=…) must lie above 0 and be at most 1, not {self.share!r}")

    def over(self, values: Sequence[float]) -> float:
        """The figure of the stretch that was chosen."""
        return over(values, self.of, self.window, self.share)
