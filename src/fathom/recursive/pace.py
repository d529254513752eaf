"""How long a supervision step takes, as a function of how many trajectories take it together: measured when a model is
opened, and learned on from every step.

A step is a fixed cost and so much more a trajectory. What it took is remembered for each size, as a median, so that a
step during which the machine did something else teaches nothing; sizes not seen yet are taken to be late by as much as
others were, since on a busy machine it is the waiting that takes long, whatever the width. What is planned with
(:meth:`Pace.step`) is the usual time, what is held back for a step under way (:meth:`Pace.late`) is that of a slow one.
"""

from __future__ import annotations

from collections import deque
from statistics import median

__all__ = ["Pace"]

REMEMBERED = 9
"""Steps of a size whose median counts."""
RECENT = 64
SLOW = 6
"""Of so many recent steps, which one from the slowest counts as slow."""
LATE = (1.25, 3.0)
"""Bounds on how much longer than usual a slow step is taken to be."""


class Pace:
    """Times of one model on one machine, shared by its sessions. Times are wall time, waiting for the processor too."""

    def __init__(self, alone: float, together: float, rows: int) -> None:
        """From the seconds of a step of one trajectory, and of ``rows`` of them."""
        self._each = max(0.0, (together - alone) / (rows - 1))
        self._base = max(1e-6, alone - self._each)
        self._seen: dict[int, deque[float]] = {}  # seconds beyond the quiet machine's, by size
        self._usual: dict[int, float] = {}
        self._recent: deque[float] = deque([1.5] * SLOW, maxlen=RECENT)
        self._delays: deque[float] = deque([0.0], maxlen=REMEMBERED)

    def saw(self, rows: int, seconds: float) -> None:
        """A step of so many trajectories took so long."""
        self._recent.append(seconds / self.step(rows))
        size, delay = rows.bit_length(), seconds - self.quiet(rows)
        seen = self._seen.setdefault(size, deque([median(self._delays)] * (REMEMBERED // 2), maxlen=REMEMBERED))
        seen.append(delay)
        self._usual[size] = median(seen)
        self._delays.append(delay)

    def quiet(self, rows: int) -> float:
        """Seconds that a step of so many takes on the machine as it was when the model was opened."""
        return self._base + self._each * rows

    def step(self, rows: int) -> float:
        """Seconds that a step of so many trajectories usually takes."""
        delay = self._usual.get(rows.bit_length())
        return max(0.25 * self.quiet(rows), self.quiet(rows) + (median(self._delays) if delay is None else delay))

    def late(self, rows: int) -> float:
        """Seconds that it takes at worst, between bounds."""
        slow = sorted(self._recent)[-SLOW]
        return self.step(rows) * min(LATE[1], max(LATE[0], slow))

    def widest(self, seconds: float, most: int) -> int:
        """The largest power of two of trajectories, at most ``most``, that step together in so many seconds; at
        least 1.
        """
        rows = 1
        while 2 * rows <= most and self.step(2 * rows) <= seconds:
            rows *= 2
        return rows
