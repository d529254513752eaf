"""The protocol that both families of models fulfil, and all that a search knows of either.

A *reasoner* is a fixed model. For one problem it opens a *session*, in which trajectories are started, grown by units
of depth, forked, and concluded at any time: a language model is made to state its final answer from the reasoning it
has so far, a recursive model decodes its latent state. Because every trajectory can be concluded at any time, every
search built on this protocol is anytime.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from fathom.budget import Meter
from fathom.records import Problem, Trajectory

__all__ = ["Capability", "Expansion", "Floor", "Reasoner", "Reserve", "Session"]


class Capability(StrEnum):
    """What a search or a judge may need of a reasoner beyond growing and concluding trajectories."""

    LOGPROBS = "logprobs"  # log-probabilities of what it generates
    TOP_LOGPROBS = "top-logprobs"  # and those of the likeliest tokens that it could have generated instead
    WORDS = "words"  # answers questions of any kind in words, so that it can be a judge
    STEPS = "steps"  # stops at the end of a reasoning step
    EXTEND = "extend"  # goes on when it would have ended by itself
    CONTINUE = "continue"  # goes on with an unfinished trajectory where it was left
    FORK = "fork"  # several continuations of one unfinished trajectory
    REVISE = "revise"  # a new attempt that sees an earlier one and what was found wrong with it
    VALUE = "value"  # an own estimate of being right, per trajectory
    VALID = "valid"  # knows for certain whether an answer is right
    TOOLS = "tools"  # asks to have functions called that a problem offers


@dataclass(frozen=True, slots=True)
class Floor:
    """Give a trajectory up when the mean confidence of ``window`` successive tokens falls under ``least``, in nats."""

    window: int
    least: float


@dataclass(frozen=True, slots=True)
class Expansion:
    """Grow trajectories: one for each of ``ids``.

    They continue ``parent`` (None: they start afresh) by at most ``units`` of depth (None: to their own end), with
    ``at_least`` so many of them (a language model that wants to stop earlier is made to go on: budget forcing,
    arXiv 2501.19393), or, with ``to_step``, to the end of the next reasoning step. With ``greedy`` nothing is drawn at
    random. With ``sources`` they are new attempts that see those earlier ones, and ``feedback``, what was found about
    them: one source is revised, several are combined into one. ``member`` is the model of a team that is to grow them.
    With ``floor`` one that becomes unsure of itself is cut, and comes back as ``weak`` (needs TOP_LOGPROBS).
    """

    ids: tuple[int, ...]
    parent: Trajectory | None = None
    units: int | None = None
    at_least: int = 0
    to_step: bool = False
    greedy: bool = False
    sources: tuple[Trajectory, ...] = ()
    feedback: str = ""
    member: int = 0
    floor: Floor | None = None


@dataclass(frozen=True, slots=True)
class Reserve:
    """What must be held back so that trajectories can still be concluded: seconds in all, tokens for each."""

    seconds: float
    tokens: int


class Session(Protocol):
    """One problem before one model. Everything that it starts ends with ``aclose``."""

    @property
    def label(self) -> str:
        """The model's name, for receipts."""

    def room(self, meter: Meter) -> int:
        """How many trajectories should run together in the time that is left, at least 1."""

    def reserve(self, width: int) -> Reserve:
        """What concluding ``width`` trajectories will take."""

    def expand(self, expansion: Expansion, meter: Meter) -> AsyncGenerator[Trajectory, None]:
        """Grow trajectories; each is given back once, as it finishes, reaches its units, fails, or is stopped.

        One that failed has ``reason == "failed"`` and its ``error``. One for which a limit left nothing is not given
        back at all.
        """

    def conclude(self, trajectories: Sequence[Trajectory], meter: Meter) -> AsyncGenerator[Trajectory, None]:
        """State the final answer of each from what it has so far; each is given back once, with ``answer`` set."""

    def drop(self, trajectories: Sequence[Trajectory]) -> None:
        """These will not be grown or concluded any more: free what is held for them."""

    def stop(self, ids: Collection[int] | None = None) -> None:
        """End growing and concluding now, of these trajectories or of all: each is given back as it is, as ``cut``."""

    async def aclose(self) -> None:
        """Cancel everything and free it. Idempotent."""


class Reasoner(Protocol):
    """A fixed model: what it can do, and sessions in which it does it."""

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    @property
    def max_width(self) -> int | None:
        """The most trajectories that it can run for one problem, None for no limit of its own."""

    async def open(
        self, problem: Problem, meter: Meter, *, seed: int = 0, wants: frozenset[Capability] = frozenset()
    ) -> Session:
        """Prepare a problem. ``wants`` names what the search will look at and what need not be asked for otherwise.

        Refuses, before anything is spent, what cannot be done at all.

        Raises PromptTooLong, InputError, and LimitError for a deadline in which not even the prompt can be read.
        """

    async def aclose(self) -> None:
        """Free the model. Idempotent."""
