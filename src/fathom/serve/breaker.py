"""A breaker for each upstream (Nygard, Release It!, 2007): after many failures in a row, requests are refused at once
for a while instead of each waiting for a server that is down; then one is let through to see.
"""

from __future__ import annotations

import time

from fathom.serve.refusal import Refused

__all__ = ["Breaker"]


class Breaker:
    """Opens after ``most`` failures in a row, for ``rest`` seconds at first, doubled up to a minute."""

    def __init__(self, name: str, most: int = 16, rest: float = 1.0) -> None:
        self.name = name
        self.most = most
        self.rest = rest
        self._failures = 0
        self._until = 0.0
        self._pause = rest

    @property
    def open(self) -> bool:
        """Whether requests are refused now."""
        return self._failures >= self.most and time.monotonic() < self._until

    def check(self) -> None:
        """Raises Refused (503) while it is open. The first request after that is the trial; others still wait."""
        if self._failures < self.most:
            return
        left = self._until - time.monotonic()
        if left > 0:
            raise Refused(
                503,
                f"the upstream of {self.name} is failing; it is tried again in {left:.1f} s",
                code="upstream_resting",
                retry_after=left,
            )
        self._until = time.monotonic() + self._pause

    def succeeded(self) -> None:
        """An answer came."""
        self._failures, self._pause = 0, self.rest

    def failed(self) -> None:
        """None came, and not by the request's fault."""
        self._failures += 1
        if self._failures >= self.most:
            self._until = time.monotonic() + self._pause
            self._pause = min(60.0, 2 * self._pause)
