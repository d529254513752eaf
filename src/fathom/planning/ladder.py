"""A ladder: models of one kind in order of cost, opened as one. ``ladder:embedded`` are the small ones that Fathom can
fetch, ``ladder:a,b,c`` any others. ``auto`` plans over all of them: which to ask first within the limits, and when to
go on to the next."""

from __future__ import annotations

from typing import Any

from fathom.errors import UsageError
from fathom.language.catalogue import CATALOGUE
from fathom.models import open_model
from fathom.reasoner import Reasoner
from fathom.team import Team
from fathom.uris import split_uris

__all__ = ["EMBEDDED", "Ladder", "open_ladder", "rungs"]

EMBEDDED = tuple(sorted(CATALOGUE, key=lambda name: CATALOGUE[name].parameters))
"""The models of ``ladder:embedded``, the smallest first."""


class Ladder(Team):
    """Models in order of cost. A strategy that knows nothing of several models asks the first one alone."""

    @property
    def name(self) -> str:
        return "ladder:" + ",".join(member.name for member in self.members)


def rungs(rest: str) -> tuple[str, ...]:
    """What the models of ``ladder:`` and ``rest`` are called, cheapest first. Raises UsageError for fewer than two."""
    names = EMBEDDED if rest == "embedded" else split_uris(rest)
    if len(names) < 2 or not all(names):
        raise UsageError(
            f"a ladder has two models or more, cheapest first, e.g. ladder:{','.join(EMBEDDED)}; not {rest!r}"
        )
    return names


async def open_ladder(rest: str, **options: Any) -> Reasoner:
    """Open all models of ``a,b,c``; the options go to each. Raises what opening one of them raises."""
    names = rungs(rest)
    members: list[Reasoner] = []
    try:
        for name in names:
            members.append(await open_model(name, **options))
    except BaseException:
        for member in members:
            await member.aclose()
        raise
    return Ladder(members)
