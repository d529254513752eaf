"""What work costs, as the one who does it expects: the words in which a reasoner tells a plan about itself.

A session that knows something of its own speed, size and price is :class:`Costed`. Nothing in it is a promise; what is
not known is left empty, and is learned from use (:mod:`fathom.planning.learned`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from fathom.budget import Pricing

__all__ = ["Costed", "Costs", "at_width"]


SPREAD, DIFFER = 0.75, 0.66
"""As measured of chains of thought of the embedded model on generated arithmetic, 46 questions of 16 chains."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What one trajectory of a session takes.

    ``unit_seconds[w]`` is the time of one unit of depth in which w trajectories advance together (empty where nobody
    measured it), ``read_seconds`` that before the first unit, ``drag`` how much longer than that things take now, None
    where nothing ran yet that would show it. ``depth`` are the units of a trajectory that comes to its own end,
    ``most_depth`` those beyond which none goes; ``answer_units`` what stating an answer takes, give or take
    ``answer_spread`` (the mean distance from it), ``answer_read`` seconds to be read for it, each. ``held_units`` and
    ``held_read`` are the same with caution: what is left of a deadline for it when trajectories are cut, as
    ``answer_tokens`` are of a limit on tokens. A unit generates ``unit_tokens`` and holds ``unit_bytes``;
    ``base_bytes`` are held by any trajectory.

    ``engine`` names what runs the model, with its version; where it is empty, nothing is remembered of the model.
    ``name`` is what receipts call it, where that is not ``model``.
    ``kind`` is that of the answer that is asked for: how long trajectories become is remembered of each kind by itself,
    since a program takes more words than a number. Lengths scatter: ``spread`` is the standard deviation of their
    logarithm among trajectories of one problem, ``differ`` that of the problems' own usual lengths, which rests on so
    many degrees of ``freedom``. ``room`` trajectories run well together. Answers that are not ``countable`` (free text)
    cannot vote. ``greedy`` says that the likeliest trajectory is worth being the first.
    """

    model: str
    engine: str = ""
    parameters: int = 0
    kind: str = ""
    unit_seconds: Mapping[int, float] = field(default_factory=dict)
    read_seconds: float = 0.0
    drag: float | None = None
    depth: float = 48.0
    spread: float = SPREAD
    differ: float = DIFFER
    freedom: float = math.inf
    most_depth: int | None = None
    answer_units: float = 0.0
    answer_spread: float = 0.0
    answer_read: float = 0.0
    held_units: float = 0.0
    held_read: float = 0.0
    answer_tokens: int = 0
    unit_tokens: float = 1.0
    prompt_tokens: int = 0
    unit_bytes: int = 0
    base_bytes: int = 0
    price: Pricing | None = None
    room: int | None = None
    max_width: int | None = None
    countable: bool = True
    greedy: bool = False
    name: str = ""

    def step(self, width: int) -> float:
        """Seconds of one unit at ``width``: linear between known widths, in proportion beyond them. Needs one known."""
        return at_width(self.unit_seconds, width)


def at_width(seconds: Mapping[int, float], width: int) -> float:
    """What a step takes at ``width``, from what it takes at some widths: linear between them, in proportion beyond the
    widest, and as at the narrowest below it. Needs one known."""
    known = sorted(seconds)
    if width <= known[0]:
        return seconds[known[0]]
    for low, high in itertools.pairwise(known):
        if width <= high:
            share = (width - low) / (high - low)
            return seconds[low] * (1 - share) + seconds[high] * share
    return seconds[known[-1]] * width / known[-1]


@runtime_checkable
class Costed(Protocol):
    """A session that can tell its costs. One of several models tells them for each; None for one that is absent."""

    @property
    def costs(self) -> tuple[Costs | None, ...]: ...
