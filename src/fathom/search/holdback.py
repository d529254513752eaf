"""Room for verdicts: what a search is held back from spending, so that its judge can still be asked.

A judge that asks a language model needs tokens, and time. Where tokens are limited, those of a verdict are set aside
for every line of thought before it grows, and what nobody could judge is not begun, unless it is the first: a search
that goes by verdicts has little use for it, but any answer is better than none. The judge's own leases are taken from
what was set aside for it. Where there is a deadline, winding down begins as much earlier as the judge has been taking
for a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from fathom.budget import Budget, Lease, Meter, Pricing
from fathom.judges.base import Verifier
from fathom.reasoner import Session
from fathom.records import StopReason

__all__ = ["Holdback"]

LEAST_DEPTH = 8
"""Tokens that a line of thought should be left with to grow, beside its conclusion and its verdict."""
RECENT = 0.5
"""The weight of the last batch in the mean of what a judge takes."""


class Holdback:
    """What is set aside in one run. ``purse`` is the meter for the judge, and charges the run's."""

    def __init__(self, meter: Meter, session: Session) -> None:
        self.meter = meter
        self.session = session
        self.purse: Meter = _Purse(self)
        self.seconds = 0.0  # what the judge has been taking for a batch, a running mean
        self._held: dict[int, Lease] = {}
        self._asked: list[int] = []  # of those that something is held for, whom the judge was asked about
        self._begun = False

    def before(self, ids: Sequence[int], judge: Verifier | None) -> Sequence[int]:
        """These are about to grow: set aside what verdicts on them take. Those that there is enough for."""
        each: int = getattr(judge, "verdict_tokens", 0)
        left = self.meter.tokens_left
        if not each or left == math.inf or "cost" in self.meter.limits:
            return ids
        affordable = int(left // (each + self.session.reserve(1).tokens + LEAST_DEPTH))
        first, self._begun = not self._begun, True
        if not affordable and first:
            return ids
        for id in ids[:affordable]:
            self._held[id] = self.meter.lease(each, calls=0)
        if affordable < len(ids):
            self.meter.refused = StopReason.TOKENS
        return ids[:affordable]

    def ask(self, ids: Iterable[int]) -> None:
        """The judge is being asked about these."""
        self._asked += [id for id in ids if id in self._held]

    def took(self, seconds: float) -> None:
        """The judge has judged a batch in so long."""
        self.seconds += (RECENT if self.seconds else 1.0) * (seconds - self.seconds)

    def settle(self, ids: Iterable[int]) -> None:
        """No verdict on these is waited for any more."""
        for id in ids:
            if (lease := self._held.pop(id, None)) is not None:
                lease.close()

    def close(self) -> None:
        self.settle(list(self._held))

    def hand_over(self, tokens: int) -> None:
        """Give back what is held for those that the judge was asked about, up to so many tokens."""
        while tokens > 0 and self._asked:
            if (lease := self._held.pop(self._asked.pop(0), None)) is not None:
                tokens -= lease.left
                lease.close()


class _Purse(Meter):
    """The run's meter as the judge sees it."""

    def __init__(self, holdback: Holdback) -> None:
        super().__init__(Budget(), parent=holdback.meter)
        self._holdback = holdback

    def lease(self, tokens: int, *, calls: int = 1, prompt_tokens: int = 0, price: Pricing | None = None) -> Lease:
        with self._lock:  # nobody else gets in between
            self._holdback.hand_over(tokens)
            return super().lease(tokens, calls=calls, prompt_tokens=prompt_tokens, price=price)
