"""What each client may use in a minute, in requests and in tokens.

Both are leaky buckets that hold one minute's worth. A request is let in while there is anything in both; what it really
spent is taken when it has ended, so that a bucket can go below nothing, and then its client waits until it is refilled.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from fathom.serve.config import KeyEntry
from fathom.serve.refusal import Refused
from fathom.serve.shared import Allowances, LeasedBucket

__all__ = ["Bucket", "Client"]


class Bucket:
    """So much a minute; full at first."""

    def __init__(self, per_minute: float) -> None:
        self.per_minute = per_minute
        self._level = per_minute
        self._at = time.monotonic()

    @property
    def level(self) -> float:
        """What is in it now."""
        now = time.monotonic()
        self._level = min(self.per_minute, self._level + (now - self._at) * self.per_minute / 60)
        self._at = now
        return self._level

    def take(self, amount: float) -> None:
        """Whatever it holds."""
        self._level = self.level - amount

    def wait(self, amount: float) -> float:
        """Seconds until it holds so much."""
        return max(0.0, (amount - self.level) * 60 / self.per_minute)


@dataclass(eq=False)
class Client:
    """Whoever holds a key, and what is left of its minute."""

    name: str
    requests: Bucket | LeasedBucket | None = None
    tokens: Bucket | LeasedBucket | None = None

    @classmethod
    def of(cls, entry: KeyEntry, allowances: Allowances | None = None) -> Client:
        """``allowances`` are what several workers share."""

        def bucket(what: str, per_minute: int | None) -> Bucket | LeasedBucket | None:
            if not per_minute:
                return None
            return LeasedBucket(allowances, f"{entry.name} {what}", per_minute) if allowances else Bucket(per_minute)

        return cls(entry.name, bucket("requests", entry.requests_per_minute), bucket("tokens", entry.tokens_per_minute))

    def knock(self) -> None:
        """Count a request. Raises Refused (429) where a bucket is empty."""
        for what, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            if bucket is not None and (wait := bucket.wait(1.0)) > 0:
                raise Refused(
                    429,
                    f"{self.name} has used its {bucket.per_minute:g} {what} per minute; wait {wait:.1f} s",
                    code="rate_limit_exceeded",
                    retry_after=wait,
                )
        if self.requests is not None:
            self.requests.take(1.0)

    def settle(self, tokens: int) -> None:
        """Take what a request has spent."""
        if self.tokens is not None:
            self.tokens.take(tokens)
