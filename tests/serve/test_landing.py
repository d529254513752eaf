"""Requests end apart from each other, each before its deadline, and none is let in that has no time to think."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from itertools import pairwise

import openai
from house import Open
from hypothesis import given
from hypothesis import strategies as st
from upstreams import Upstream
from waiting import until

from fathom.serve.landing import LEAST, Landings, Slot

SECONDS = st.floats(0.05, 5.0)


@given(st.lists(st.tuples(SECONDS, st.booleans()), max_size=60))
def test_slots_are_apart_and_before_their_deadlines(asked: Sequence[tuple[float, bool]]) -> None:
    async def scenario() -> None:
        landings = Landings()
        taken: list[Slot] = []
        for seconds, leaves in asked:
            deadline = time.monotonic() + seconds
            slot = landings.book(seconds, deadline)
            if slot is None:
                assert taken, "with nobody else there is always room"
                continue
            assert slot.begin < slot.end <= deadline
            taken.append(slot)
            if leaves:
                landings.free(taken.pop(0))
            for one, other in pairwise(sorted(taken)):
                assert one.end <= other.begin + 1e-9
        for slot in taken:
            landings.free(slot)

    asyncio.run(scenario())


async def test_what_has_no_deadline_takes_nothing_from_others() -> None:
    landings = Landings()
    for _ in range(1000):
        assert landings.book(math.inf, math.inf) is not None
    assert landings.book(0.1, time.monotonic() + 0.1) is not None


async def test_beyond_what_can_end_in_time_requests_wait_until_others_have_ended() -> None:
    landings, deadline = Landings(), time.monotonic() + 6.0
    slots: list[Slot] = []
    while (slot := landings.book(6.0, deadline)) is not None:
        slots.append(slot)
    assert len(slots) > 1
    for slot in slots:
        landings.free(slot)
    assert landings.book(6.0, deadline) is not None


@given(SECONDS, st.lists(SECONDS, max_size=60))
def test_what_is_hopeless_cannot_be_booked_whoever_leaves(asked: float, others: Sequence[float]) -> None:
    async def scenario() -> None:
        landings, now = Landings(), time.monotonic()
        taken = [slot for seconds in others if (slot := landings.book(seconds, now + seconds)) is not None]
        late = now + (LEAST / 2) * asked  # half of what it needs is left
        assert landings.hopeless(asked, late)
        assert not taken or landings.book(asked, late) is None
        for slot in taken:
            landings.free(slot)

    asyncio.run(scenario())


async def test_a_landing_that_came_late_makes_the_next_ones_earlier() -> None:
    landings, deadline = Landings(), time.monotonic() + 1.0
    before = landings.book(1.0, deadline)
    assert before is not None
    landings.free(before)
    late = landings.book(0.1, time.monotonic() - 0.1)
    assert late is not None
    landings.free(late)
    after = landings.book(1.0, deadline)
    assert after is not None
    assert after.end < before.end
    landings.free(after)


async def test_what_refusals_take_is_not_counted_for_those_that_are_let_in() -> None:
    costs = []
    for refused in (0, 40):
        landings = Landings()
        slot = landings.book(60.0, time.monotonic() + 60.0)
        assert slot is not None
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass
        for _ in range(refused):
            landings.refuse()
        landings.free(slot)
        costs.append(landings.cost)
    assert costs[0] > costs[1]


async def test_a_loop_that_is_held_up_is_seen_to_be_late() -> None:
    landings = Landings()
    slot = landings.book(math.inf, math.inf)
    assert slot is not None
    await asyncio.sleep(0)
    time.sleep(0.1)  # noqa: ASYNC251 (that is the point)
    await asyncio.sleep(0.001)
    assert landings.pulse.late > 0.01
    landings.free(slot)


async def test_a_burst_on_an_upstream_with_slow_replies_all_ends(open_house: Open, upstream: Upstream) -> None:
    upstream.fault = lambda number: "slow" if number % 10 == 9 else None
    house = await open_house()
    asked = {"strategy": "vote", "width": 4, "within": 4}
    ends = await asyncio.gather(*(house.ask(fathom=asked) for _ in range(64)), return_exceptions=True)
    for end in ends:
        if isinstance(end, openai.APIStatusError):
            assert end.status_code in (503, 504), end
        else:
            assert not isinstance(end, BaseException)
    assert any(not isinstance(end, BaseException) for end in ends)
    gate = house.server.gateway.gate
    await until(lambda: not gate.running)
    assert (gate.running, gate.waiting, gate.landings._taken) == (0, 0, [])
