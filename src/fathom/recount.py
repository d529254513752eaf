"""How a trajectory went, in the words of a reasoner that holds an answer after every unit of depth.

Such a trajectory, cut after d units, would have ended as it stood then: of one deep run, all shallower ones are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from fathom.records import Trajectory

__all__ = ["Held", "Recount", "Recounting", "Unfolding"]


@dataclass(frozen=True, slots=True)
class Held:
    """An ``answer`` that a trajectory held from ``depth`` on, until the next one; ``valid`` is whether it is right,
    where the reasoner knows."""

    depth: int
    answer: str
    valid: bool | None = None


@dataclass(frozen=True, slots=True)
class Recount:
    """``values[d - 1]`` is the model's own estimate after d units; ``held`` are its answers in order, each where it
    changed."""

    values: tuple[float, ...]
    held: tuple[Held, ...]


@runtime_checkable
class Recounting(Protocol):
    """A session whose trajectories can be cut at any depth and answer as they stand."""

    def recount(self, trajectory: Trajectory) -> Recount:
        """How one that this session gave back has gone so far, also after it was dropped."""


@runtime_checkable
class Unfolding(Protocol):
    """A session that shows the answers of its trajectories while they grow."""

    def unfolding(self, given: Iterable[Trajectory], told: Mapping[int, int]) -> Iterator[tuple[int, Sequence[Held]]]:
        """For each that grows now, and each that was ``given`` back, its answers but for the first so many, which have
        been ``told``; by number. Those of which there is nothing new are left out."""
