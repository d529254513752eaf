"""How long a supervision step takes, as a function of how many trajectories take it together: measured when a model is
opened, and learned on from every step.

A step is a fixed cost and so much more a trajectory; where real steps depart from that line, a running mean of how far
is kept for each size. What is planned with (:meth:`Pace.step`) is the usual time, what is held back for a step that is
under way (:meth:`Pace.late`) is what a slow one takes.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Pace"]

LEARNING = 0.1
RECENT = 64
LATE = (1.5, 4.0)
"""Bounds on how much longer than usual a slow step is taken to be."""


class Pace:
    """Times of one model on one machine, shared by its sessions. Times are wall time, waiting for the processor too."""

    def __init__(self, alone: float, together: float, rows: int) -> None:
        """From the seconds of a step of one trajectory, and of ``rows`` of them."""
        self._each = max(0.0, (together - alone) / (rows - 1))
        self._base = max(1e-6, alone - self._each)
        self._departure: dict[int, float] = {}
        self._recent: deque[float] = deque([1.0], maxlen=RECENT)

    def saw(self, rows: int, seconds: float) -> None:
        """A step of so many trajectories took so long."""
        self._recent.append(seconds / self.step(rows))
        known = self._departure.get(rows.bit_length(), self._overall)
        self._departure[rows.bit_length()] = known + LEARNING * (seconds / self._line(rows) - known)

    def step(self, rows: int) -> float:
        """Seconds that a step of so many trajectories usually takes."""
        return self._line(rows) * self._departure.get(rows.bit_length(), self._overall)

    def late(self, rows: int) -> float:
        """Seconds that it takes at worst: as the second slowest of the recent steps, between bounds."""
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

    def _line(self, rows: int) -> float:
        return self._base + self._each * rows

    @property
    def _overall(self) -> float:
        """The mean departure, for sizes not seen yet."""
        known = self._departure.values()
        return sum(known) / len(known) if known else 1.0
