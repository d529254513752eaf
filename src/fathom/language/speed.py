"""How fast an engine is now, told by the pieces of its requests as they come in."""

from __future__ import annotations

from typing import NamedTuple

from fathom.language.engines.base import Pace, Piece
from fathom.language.timing import Timing

__all__ = ["Clock", "Mark", "Observer"]

LEAST_TOKENS = 8
"""Of what comes in one piece with the reading of its prompt: fewer say more of the reading."""


class Mark(NamedTuple):
    """A moment of a clock."""

    at: float
    steps: float
    shares: float


class Clock:
    """Counts the steps that there was time for at the measured pace, however many choices ran at any moment.

    ``steps`` grows by one in the time of a step at the present width, ``shares`` by one choice's share of that step.
    Without a pace it tells the time alone.
    """

    def __init__(self, pace: Pace | None) -> None:
        self._pace = pace
        self._now = Mark(0.0, 0.0, 0.0)

    def tick(self, now: float, width: int) -> Mark:
        """It is ``now``, and since the last time so many choices ran."""
        steps = (now - self._now.at) / self._pace.step(width) if self._pace is not None and width else 0.0
        self._now = Mark(now, self._now.steps + steps, self._now.shares + (steps / width if width else 0.0))
        return self._now


class Observer:
    """Sees the pieces of one request, which began at a moment of the session's clock, and tells ``timing`` of them.

    Where the engine's pace was measured, it tells how long steps take now; of a server that streams, how long its
    tokens do.
    """

    def __init__(self, timing: Timing, began: Mark, streamed: bool) -> None:
        self._timing, self._began, self._streamed = timing, began, streamed
        self._unread = timing.unread
        self._last: dict[int, Mark] = {}  # when a choice last advanced

    def saw(self, piece: Piece, now: Mark) -> None:
        if piece.tokens <= 0:
            return
        last, timing = self._last.get(piece.index), self._timing
        since = last or self._began
        seconds, steps = now.at - since.at, now.steps - since.steps
        if timing.pace is None:
            if self._streamed:
                timing.heard(piece.tokens, seconds, first=last is None)
        elif steps > 0 and (last is not None or piece.tokens >= LEAST_TOKENS):
            read = 0 if last is not None else max(self._unread, piece.prompt_tokens)
            expected = read * timing.pace.read_seconds + piece.tokens * seconds / steps
            timing.stepped(now.shares - since.shares, seconds / expected)
        self._last[piece.index] = now
