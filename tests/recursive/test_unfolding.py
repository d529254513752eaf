"""A session shows every answer of its trajectories once, in order, whether they grow or were given back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import SystemRandom

from fathom.budget import Meter
from fathom.reasoner import Expansion
from fathom.records import Problem
from fathom.recount import Held, Unfolding
from fathom.recursive.reasoner import open_recursive


async def test_what_is_shown_while_they_grow_is_what_is_recounted_in_the_end() -> None:
    reasoner = await open_recursive("queens-8")
    column = SystemRandom().randrange(8)
    puzzle = "/".join(["." * column + "Q" + "." * (7 - column), *["." * 8] * 7])
    session = await reasoner.open(Problem.of(puzzle), Meter(), seed=column)
    assert isinstance(session, Unfolding)
    shown: dict[int, list[Held]] = {}

    def look() -> None:
        told = {id: len(held) for id, held in shown.items()}
        for id, held in session.unfolding(given, told):
            shown.setdefault(id, []).extend(held)

    given = []
    watching = asyncio.create_task(look_often(look))
    async for trajectory in session.expand(Expansion(ids=(0, 1, 2, 3)), Meter()):
        given.append(trajectory)
    watching.cancel()
    look()
    for trajectory in given:
        assert shown[trajectory.id] == list(session.recount(trajectory).held)
        assert shown[trajectory.id][-1].answer == trajectory.text
    look()
    assert sum(map(len, shown.values())) == sum(len(session.recount(t).held) for t in given)
    await session.aclose()
    await reasoner.aclose()


async def look_often(look: Callable[[], None]) -> None:
    while True:
        look()
        await asyncio.sleep(0.002)
