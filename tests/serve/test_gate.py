"""Who gets in, in which order, and how much."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Sequence
from typing import Any

import openai
import pytest
from house import Held, House, Open
from hypothesis import given
from hypothesis import strategies as st
from waiting import until

from fathom.budget import Budget, Meter
from fathom.serve.config import KeyEntry, Limits
from fathom.serve.gate import Gate
from fathom.serve.keys import Keys, new_key
from fathom.serve.limits import Client
from fathom.serve.refusal import Refused


def entry(name: str, key: str, **limits: int) -> KeyEntry:
    return KeyEntry(name=name, sha256=hashlib.sha256(key.encode()).hexdigest(), **limits)


async def test_a_key_is_asked_for_on_every_route_that_does_or_tells_anything(open_house: Open) -> None:
    house = await open_house(keys=[entry("alice", "right")], key="wrong")
    for call in (house.ask, house.client.models.list):
        with pytest.raises(openai.AuthenticationError) as caught:
            await call()
        assert caught.value.code == "invalid_api_key"
    reply = await house.client.with_options(api_key="right").models.list()
    assert reply.data[0].id == "m"


def test_keys_show_nowhere() -> None:
    key, lines = new_key("alice")
    assert key not in lines
    entries = [entry("alice", key)]
    assert entries[0].sha256 not in repr(entries) + repr(Keys(entries))
    assert Keys(entries).client_of({"Authorization": f"Bearer {key}"}).name == "alice"


@given(st.text(max_size=200))
def test_no_other_header_opens(said: str) -> None:
    keys = Keys([entry("alice", "a-key-that-is-not-guessed")])
    with pytest.raises(Refused):
        keys.client_of({"Authorization": said})


async def test_requests_per_minute(open_house: Open) -> None:
    house = await open_house(keys=[entry("alice", "k", requests_per_minute=3)], key="k")
    for _ in range(3):
        await house.ask()
    with pytest.raises(openai.RateLimitError) as caught:
        await house.ask()
    assert int(caught.value.response.headers["Retry-After"]) >= 1


async def test_tokens_per_minute_count_everything_that_was_spent(open_house: Open) -> None:
    house = await open_house(keys=[entry("a", "k", tokens_per_minute=30), entry("b", "l")], key="k")
    await house.ask(fathom={"strategy": "vote(stop=never)", "width": 8})
    with pytest.raises(openai.RateLimitError):
        await house.ask()
    other = house.client.with_options(api_key="l")
    assert await House(house.server, other).ask()


async def test_beyond_the_queue_there_is_a_503_that_says_when_to_come_again(open_house: Open, upstream: Held) -> None:
    upstream.fault = lambda number: "held"
    house = await open_house(limits=Limits(concurrent=2, queue=2))
    asked = [asyncio.create_task(house.ask()) for _ in range(8)]
    await until(lambda: sum(task.done() for task in asked) >= 4 and upstream.running >= 2)
    upstream.freed = True
    replies = await asyncio.gather(*asked, return_exceptions=True)
    refused = [reply for reply in replies if isinstance(reply, openai.InternalServerError)]
    assert len(replies) - len(refused) == 4
    assert {error.status_code for error in refused} == {503}
    assert all(error.response.headers["Retry-After"] for error in refused)
    assert upstream.most_running == 2


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_clients_take_turns(arrivals: Sequence[int]) -> None:
    """Whoever waits, nobody gets a second turn before everybody who was waiting has had one."""
    served: list[int] = []

    async def scenario() -> None:
        gate, clients = Gate(1, 100, 3600.0), [Client(str(k)) for k in range(4)]
        hold = asyncio.Event()

        async def visit(k: int) -> None:
            async with gate.enter(clients[k], Meter(Budget(seconds=60))):
                served.append(k)

        async def holder() -> None:
            async with gate.enter(Client("holder"), Meter()):
                await hold.wait()

        tasks = [asyncio.create_task(holder())]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(visit(k)) for k in arrivals]
        await asyncio.sleep(0)
        hold.set()
        await asyncio.gather(*tasks)
        assert (gate.running, gate.waiting) == (0, 0)

    asyncio.run(scenario())
    waiting = list(arrivals)
    while waiting:
        clients_now = set(waiting)
        turn = [served.pop(0) for _ in clients_now]
        assert set(turn) == clients_now
        for k in turn:
            waiting.remove(k)


@given(st.lists(st.sampled_from(["come", "leave", "cancel", "turn"]), max_size=60))
def test_no_permit_is_lost_whoever_leaves_when(steps: Sequence[str]) -> None:
    async def scenario() -> None:
        gate, client = Gate(2, 3, 3600.0), Client("c")
        inside: list[tuple[asyncio.Task[None], asyncio.Event]] = []
        tasks: list[asyncio.Task[None]] = []

        async def visit(done: asyncio.Event) -> None:
            async with gate.enter(client, Meter(Budget(seconds=60))):
                await done.wait()

        for step in steps:
            if step == "come":
                done = asyncio.Event()
                tasks.append(asyncio.create_task(visit(done)))
                inside.append((tasks[-1], done))
            elif inside and step != "turn":
                task, done = inside.pop(0 if step == "leave" else -1)
                done.set() if step == "leave" else task.cancel()
            if step == "turn":
                await asyncio.sleep(0)
            assert gate.running <= 2
            assert gate.waiting <= 3
        for task, _ in inside:
            task.cancel()
        for end in await asyncio.gather(*tasks, return_exceptions=True):
            assert end is None or isinstance(end, asyncio.CancelledError | Refused)
        assert (gate.running, gate.waiting) == (0, 0)

    asyncio.run(scenario())


async def test_one_that_has_no_time_left_does_not_hold_up_those_behind_it() -> None:
    gate, client, ended = Gate(1, 10, 3600.0), Client("c"), []

    async def visit(name: str, seconds: float) -> None:
        with contextlib.suppress(Refused):
            async with gate.enter(client, Meter(Budget(seconds=seconds))):
                ended.append(name)

    async with gate.enter(client, Meter()):
        tasks = [asyncio.create_task(visit(*one)) for one in (("late", 0.1), ("early", 60.0))]
        await asyncio.sleep(0)
        time.sleep(0.08)  # noqa: ASYNC251 (nobody notices that its patience has ended)
    assert gate.waiting == 0
    await asyncio.gather(*tasks)
    assert ended == ["early"]
    assert (gate.running, gate.waiting) == (0, 0)


async def test_a_web_page_cannot_get_in_under_a_name_of_its_own(open_house: Open) -> None:
    house = await open_house(hosts=["gateway.internal"])
    for host in ("gateway.internal:80", "localhost:1", "[::1]:9", "127.0.0.1"):
        await house.client.get("/models", cast_to=object, options={"headers": {"Host": host}})
    for host in ("evil.example", "[fe80::1%eth0]", f"[fe80::1%{'a' * 7000}]", "fe80::1%", "[::1%25x]:80"):
        with pytest.raises(openai.PermissionDeniedError):
            await house.client.get("/models", cast_to=object, options={"headers": {"Host": host}})


async def test_one_key_that_floods_does_not_hold_up_another(open_house: Open, upstream: Held) -> None:
    upstream.fault = lambda number: "held"
    keys = [entry("flood", "f"), entry("single", "s")]
    house = await open_house(keys=keys, key="f", limits=Limits(concurrent=2))
    other = House(house.server, house.client.with_options(api_key="s"))
    gate = house.server.gateway.gate

    def asked(who: House, name: str, times: int) -> list[asyncio.Task[Any]]:
        return [asyncio.create_task(who.ask(messages=[{"role": "user", "content": name}])) for _ in range(times)]

    flood = asked(house, "flood", 40)
    await until(lambda: gate.waiting == 38 and upstream.running == 2)
    single = asked(other, "single", 3)
    await until(lambda: gate.waiting == 41)
    upstream.freed = True
    await asyncio.gather(*flood, *single)
    let_in = [body["messages"][0]["content"] for body in upstream.bodies][2:]
    last = max(at for at, name in enumerate(let_in) if name == "single")
    assert let_in.count("single") == 3
    assert let_in[:last].count("flood") <= 3 * 3  # two permits: in each turn of its own at most what runs beside it


async def test_what_plans_for_itself_thinks_narrower_while_others_wait(open_house: Open, upstream: Held) -> None:
    house = await open_house(limits=Limits(concurrent=2))
    alone = await house.ask(fathom={"strategy": "auto"})
    assert "width" not in alone.fathom["limits"]
    upstream.fault = lambda number: "held"
    crowd = [asyncio.create_task(house.ask(fathom={"strategy": "auto"})) for _ in range(12)]
    await until(lambda: house.server.gateway.gate.waiting == 10)
    upstream.freed = True
    replies = await asyncio.gather(*crowd)
    told = sorted(reply.fathom["limits"].get("width", 16) for reply in replies)
    assert told[0] < 8
    asked = await asyncio.gather(*(house.ask(fathom={"strategy": "auto", "width": 12}) for _ in range(6)))
    assert {reply.fathom["limits"]["width"] for reply in asked} == {12}
