"""Several models as one reasoner, for searches that spend over more than one: ensembles and cascades.

A team opens a session with each of its members; an expansion says by its index which member is to grow it, and whatever
a member grew it also concludes. A member that cannot be opened, or fails, costs its own trajectories only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import replace

from fathom.budget import Meter
from fathom.costs import Costed, Costs
from fathom.errors import FathomError
from fathom.language.model import LanguageModel
from fathom.language.prompts import AnswerForm
from fathom.merging import merged
from fathom.reasoner import Capability, Expansion, Reasoner, Reserve, Session
from fathom.records import Problem, Trajectory

__all__ = ["Team", "in_form", "members_of", "varied"]


def in_form(model: Reasoner, form: AnswerForm | str) -> Reasoner:
    """The model asked for answers in this form, and of a team each member; models that know no forms are as they were.

    Engines are shared with the model, so that closing either closes both.
    """
    return varied(model, lambda language: language.using(form=form))


def varied(model: Reasoner, vary: Callable[[LanguageModel], LanguageModel]) -> Reasoner:
    """The model with every language model in it varied."""
    if isinstance(model, Team):
        return type(model)([varied(member, vary) for member in model.members])
    return vary(model) if isinstance(model, LanguageModel) else model


def members_of(model: Reasoner) -> tuple[Reasoner, ...]:
    """The models that work together in it, those of teams among them each by itself; or it alone."""
    if isinstance(model, Team):
        return tuple(found for member in model.members for found in members_of(member))
    return (model,)


class Team:
    """Models that work on one problem together. It can do what all of its members can."""

    def __init__(self, members: Sequence[Reasoner]) -> None:
        self.members = tuple(members)

    @property
    def name(self) -> str:
        return " + ".join(member.name for member in self.members)

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset.intersection(*(member.capabilities for member in self.members))

    @property
    def max_width(self) -> int | None:
        widths = [member.max_width for member in self.members if member.max_width is not None]
        return min(widths, default=None)

    async def open(
        self, problem: Problem, meter: Meter, *, seed: int = 0, wants: frozenset[Capability] = frozenset()
    ) -> TeamSession:
        """Raises what the members raise where none of them can be opened."""
        opened = await asyncio.gather(
            *(member.open(problem, meter, seed=seed, wants=wants) for member in self.members), return_exceptions=True
        )
        errors = [error for error in opened if isinstance(error, BaseException)]
        unexpected = [error for error in errors if not isinstance(error, FathomError)]
        if unexpected or len(errors) == len(opened):
            for session in opened:
                if not isinstance(session, BaseException):
                    await session.aclose()
            raise (unexpected or errors)[0]
        return TeamSession([one if not isinstance(one, BaseException) else _Absent(one) for one in opened])

    async def aclose(self) -> None:
        await asyncio.gather(*(member.aclose() for member in self.members))


class TeamSession:
    """One problem before all members."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = tuple(sessions)
        self._member_of: dict[int, int] = {}

    @property
    def label(self) -> str:
        return " + ".join(session.label for session in self._sessions)

    def room(self, meter: Meter) -> int:
        return sum(session.room(meter) for session in self._sessions)

    @property
    def costs(self) -> tuple[Costs | None, ...]:
        """Of each member, None for one that could not be opened or tells none."""
        told = (session.costs if isinstance(session, Costed) else () for session in self._sessions)
        return tuple(costs[0] if len(costs) == 1 else None for costs in told)

    def reserve(self, width: int) -> Reserve:
        """For the members that were asked so far: the others have nothing to conclude."""
        asked = sorted(set(self._member_of.values())) or range(len(self._sessions))
        each = [self._sessions[member].reserve(width) for member in asked]
        return Reserve(max(one.seconds for one in each), max(one.tokens for one in each))

    async def expand(self, expansion: Expansion, meter: Meter) -> AsyncGenerator[Trajectory, None]:
        self._member_of.update(dict.fromkeys(expansion.ids, expansion.member))
        async for trajectory in self._sessions[expansion.member].expand(expansion, meter):
            yield trajectory

    async def conclude(self, trajectories: Sequence[Trajectory], meter: Meter) -> AsyncGenerator[Trajectory, None]:
        groups: dict[int, list[Trajectory]] = {}
        for trajectory in trajectories:
            groups.setdefault(self._member_of[trajectory.id], []).append(trajectory)
        work = [self._sessions[member].conclude(group, meter) for member, group in groups.items()]
        async with aclosing(merged(work)) as concluded:
            async for trajectory in concluded:
                yield trajectory

    def drop(self, trajectories: Sequence[Trajectory]) -> None:
        for trajectory in trajectories:
            self._sessions[self._member_of[trajectory.id]].drop([trajectory])

    def stop(self, ids: Collection[int] | None = None) -> None:
        for session in self._sessions:
            session.stop(ids)

    async def aclose(self) -> None:
        await asyncio.gather(*(session.aclose() for session in self._sessions))


class _Absent:
    """The session of a member that could not be opened: whatever it is to grow fails, with the reason."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    label = "absent"

    def room(self, meter: Meter) -> int:
        return 1  # so that its share is asked for, and its failure told

    def reserve(self, width: int) -> Reserve:
        return Reserve(0.0, 0)

    async def expand(self, expansion: Expansion, meter: Meter) -> AsyncGenerator[Trajectory, None]:
        for id in expansion.ids:
            yield Trajectory(id, reason="failed", error=str(self._error))

    async def conclude(self, trajectories: Sequence[Trajectory], meter: Meter) -> AsyncGenerator[Trajectory, None]:
        for trajectory in trajectories:
            yield replace(trajectory, error=str(self._error))

    def drop(self, trajectories: Sequence[Trajectory]) -> None:
        """Nothing is held."""

    def stop(self, ids: Collection[int] | None = None) -> None:
        """Nothing runs."""

    async def aclose(self) -> None:
        """Nothing is open."""
