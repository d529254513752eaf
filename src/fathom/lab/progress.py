"""How far a sweep is, and what it has cost."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from fathom.records import Spent

__all__ = ["Progress"]


@dataclass(slots=True)
class Progress:
    """How far a sweep is. ``done`` and ``total`` count trajectories and live outcomes, ``drawn`` those of this time.

    ``spent`` is all that the sweep has cost, ``failed`` what went wrong by question; ``seconds_left`` is None until
    there is something to tell it from.
    """

    total: int
    done: int
    drawn: int = 0
    spent: Spent = field(default_factory=Spent)
    failed: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds_left(self) -> float | None:
        if not self.drawn:
            return None
        return (time.monotonic() - self.began) / self.drawn * (self.total - self.done)
