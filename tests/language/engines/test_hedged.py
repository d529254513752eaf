"""Stragglers are asked for twice, the first to come is taken, both are paid for, and only few are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from heard import hear, request
from upstreams import PROMPT_TOKENS, Upstream
from waiting import until

from fathom.language.engines.base import Finish
from fathom.language.engines.hedged import HedgedEngine, _runs
from fathom.language.engines.openai import OpenAIEngine


@pytest.fixture
def server() -> Iterator[Upstream]:
    with Upstream(delay=0.01) as upstream:
        yield upstream


async def hedged(server: Upstream, share: float = 0.05, *, stream: bool = True) -> HedgedEngine:
    """An engine that knows how long replies usually take."""
    engine = HedgedEngine(OpenAIEngine("m", server.url), share)
    for _ in range(20):
        await hear(engine, request(seed=1, stream=stream))
    return engine


def slower(engine: HedgedEngine) -> float:
    """Seconds after which a reply was a straggler long ago."""
    late = engine.beginnings(request()).late
    assert late is not None
    return max(0.1, 8 * late)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_straggler_is_overtaken(server: Upstream, stream: bool) -> None:
    engine = await hedged(server, stream=stream)
    server.fault = lambda number: "hang" if number == 20 else None
    (heard,) = await hear(engine, request(seed=7, stream=stream))
    assert heard.finish is Finish.STOP
    assert heard.text == "The answer is 7."
    assert (engine.hedged, engine.won) == (1, 1)
    assert heard.prompt_tokens + heard.reused_tokens > PROMPT_TOKENS  # the one that hung had read the prompt too
    assert sum(piece.lost or piece.finish is not None for piece in heard.pieces) == 2  # calls, as they are charged
    await engine.aclose()
    await until(lambda: not server.running)


async def test_every_choice_of_a_batch_comes_once_with_its_own_seed(server: Upstream) -> None:
    engine = await hedged(server)
    server.many = 1  # every choice is a request of its own
    single: Counter[int] = Counter()

    def fault(number: int) -> str | None:
        """Three choices hang at first, whichever of the two requests comes to ask for them first."""
        asked = server.bodies[number]
        single[asked["seed"]] += "n" not in asked
        return "hang" if "n" not in asked and asked["seed"] in (31, 32, 34) and single[asked["seed"]] == 1 else None

    server.fault = fault
    found = await hear(engine, request(n=5, seed=30))
    assert [heard.text for heard in found] == [f"The answer is {30 + k}." for k in range(5)]
    assert all(sum(piece.finish is not None for piece in heard.pieces) == 1 for heard in found)
    await engine.aclose()


async def test_no_more_than_the_share_is_asked_twice(server: Upstream) -> None:
    engine = await hedged(server, share=0.05)
    sent = len(server.bodies)
    server.delay = slower(engine)  # now all are slower than nearly all were
    for _ in range(5):
        await asyncio.gather(*(hear(engine, request(seed=1)) for _ in range(20)))
    asked = 100
    assert 0 <= len(server.bodies) - sent - asked <= engine.hedged  # one that was overtaken at once is not sent
    assert 1 <= engine.hedged <= 2 + 0.05 * (asked + 20)
    await engine.aclose()


async def test_a_share_of_nothing_hedges_nothing(server: Upstream) -> None:
    engine = await hedged(server, share=0.0)
    server.delay = slower(engine)
    await hear(engine, request(seed=1))
    assert engine.hedged == 0
    await engine.aclose()


async def test_a_failure_of_one_leaves_it_to_the_other(server: Upstream) -> None:
    engine = await hedged(server)
    server.delay, server.fault = slower(engine), lambda number: "400" if number == 20 else None
    (heard,) = await hear(engine, request(seed=3))
    assert heard.text == "The answer is 3."
    await engine.aclose()


async def test_leaving_and_cancelling_stop_both(server: Upstream) -> None:
    engine = await hedged(server)
    server.fault = lambda number: "hang"
    async with engine.generate(request(n=2, seed=1)) as generation:
        await until(lambda: server.running == 2)
        for index in range(2):
            generation.cancel(index)
        ends = [piece.finish async for piece in generation if piece.finish is not None]
    assert ends == [Finish.CANCELLED] * 2
    assert (engine.hedged, engine.won) == (1, 0)
    await until(lambda: not server.running)
    await engine.aclose()


def test_neighbours_are_asked_for_together() -> None:
    assert _runs([0, 1, 4, 6, 7, 8]) == [(0, 2), (4, 1), (6, 3)]
