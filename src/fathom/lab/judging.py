"""What a judge's word costs: a strategy that asks for verdicts pays for them, beside what its samples cost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from fathom.judges.base import Spender, judge_needs
from fathom.judges.registry import JUDGES
from fathom.records import Spent

__all__ = ["FREE", "UNKNOWN", "VerdictCost", "verdict_cost"]


@dataclass(frozen=True, slots=True)
class VerdictCost:
    """What one verdict takes on average; NaN for what is not known."""

    tokens: float = math.nan
    seconds: float = math.nan
    flops: float = math.nan
    dollars: float = math.nan

    @property
    def unknown(self) -> tuple[str, ...]:
        """The names of what is not known."""
        return tuple(f.name for f in fields(self) if math.isnan(getattr(self, f.name)))

    @property
    def known(self) -> VerdictCost:
        """The same with nothing for what is not known."""
        return replace(self, **dict.fromkeys(self.unknown, 0.0))


UNKNOWN = VerdictCost()
FREE = VerdictCost(0.0, 0.0, 0.0, 0.0)


def verdict_cost(spec: str, told: Iterable[Spent | None]) -> VerdictCost:
    """What a verdict of the judge ``spec`` costs, from what is ``told`` of each that it gave.

    Older stores tell nothing. Of their judges it is known that those that are no `Spender` take no tokens, arithmetic
    or money, and no time to speak of where they read what the model said anyway.
    """
    judge, spent = JUDGES.build(spec), [one for one in told if one is not None]
    free = not isinstance(judge, Spender)
    if not spent:
        return UNKNOWN if not free else FREE if judge_needs(judge) else VerdictCost(0.0, math.nan, 0.0, 0.0)
    costs = [0.0 if free else math.nan if one.cost is None else one.cost for one in spent]
    n = len(spent)
    return VerdictCost(
        sum(one.tokens for one in spent) / n,
        sum(one.seconds for one in spent) / n,
        sum(one.flops for one in spent) / n,
        math.fsum(costs) / n,
    )
