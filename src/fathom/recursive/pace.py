"""How long a supervision step takes, as a function of how many trajectories take it together: measured when a model is
opened, and learned on from every step.

A step is a fixed cost and so much more a trajectory; where real steps depart from that line, the median of how far is
kept for each size, so that a step during which the machine did something else teaches nothing. What is planned with
(:meth:`Pace.step`) is the usual time, what is held back for a step under way (:meth:`Pace.late`) is that of a slow one.
"""

from __future__ import annotations

from collections import deque
from statistics import median

__all__ = ["Pace"]

REMEMBERED = 9
"""Steps of a size whose median counts."""
RECENT = 64
"""Steps of any size, of which the second slowest counts as slow."""
LATE = (1.5, 4.0)
"""Bounds on how much longer than usual a slow step is taken to be."""


class Pace:
    """Times of one model on one machine, shared by its sessions. Times are wall time, waiting for the processor too."""

    def __init__(self, alone: float, together: float, rows: int) -> None:
        """From the seconds of a step of one trajectory, and of ``rows`` of them."""
        self._each = max(0.0, (together - alone) / (rows - 1))
        self._base = max(1e-6, alone - self._each)
        self._seen: dict[int, deque[float]] = {}
        self._departure: dict[int, float] = {}
        self._recent: deque[float] = deque([1.0], maxlen=RECENT)

    def saw(self, rows: int, seconds: float) -> None:
        """A step of so many trajectories took so long."""
        self._recent.append(seconds / self.step(rows))
        size = rows.bit_length()
        seen = self._seen.setdefault(size, deque([self._overall] * (REMEMBERED // 2), maxlen=REMEMBERED))
        seen.append(seconds / self.quiet(rows))
        self._departure[size] = median(seen)

    def quiet(self, rows: int) -> float:
        """Seconds that a step of so many takes on the machine as it was when the model was opened."""
        return self._base + self._each * rows

    def step(self, rows: int) -> float:
        """Seconds that a step of so many trajectories usually takes."""
        return self.quiet(rows) * self._departure.get(rows.bit_length(), self._overall)

    def late(self, rows: int) -> float:
        """Seconds that it takes at worst, between bounds."""
        slow = sorted(self._recent)[-2:][0]
        return self.step(rows) * min(LATE[1], max(LATE[0], slow))

    def widest(self, seconds: float, most: int) -> int:
        """The largest power of two of trajectories, at most ``most``, that step together in so many seconds; at
        least 1.
        """
        rows = 1
        while 2 * rows <= most and self.step(2 * rows) <= seconds:
            rows *= 2
        return rows

    @property
    def _overall(self) -> float:
        """The mean departure, for sizes not seen yet."""
        known = self._departure.values()
        return sum(known) / len(known) if known else 1.0
