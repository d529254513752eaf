"""Permits never leak and stay within bounds; waits keep to the policy and to the deadline."""

from __future__ import annotations

import asyncio
import random
import time

from hypothesis import given
from hypothesis import strategies as st

from fathom.errors import UpstreamError
from fathom.language.engines.upstream import AdaptiveLimit, Failure, RetryPolicy, Upstream

ERROR = UpstreamError("no")


@given(
    tried=st.integers(1, 12),
    tries=st.integers(1, 12),
    asked=st.none() | st.floats(0, 100),
    left=st.none() | st.floats(-5, 100),
)
def test_waits_keep_to_the_policy(tried: int, tries: int, asked: float | None, left: float | None) -> None:
    policy = RetryPolicy(tries=tries, base=0.25, cap=8.0, patience=60.0)
    deadline = None if left is None else time.monotonic() + left
    wait = policy.wait(Failure(ERROR, again=True, wait=asked), tried, deadline)
    assert policy.wait(Failure(ERROR, wait=asked), tried, None) is None
    if tried >= tries or (asked or 0) > 60 or (left is not None and left <= 0):
        assert wait is None
    if wait is not None:
        assert (asked or 0) <= wait <= (asked or 0) + min(8.0, 0.25 * 2 ** (tried - 1))
        assert left is None or wait < left
    elif tried < tries and (asked or 0) <= 60:
        assert left is not None
        assert left <= (asked or 0) + 8.0


@given(seed=st.integers(), most=st.integers(1, 12))
def test_permits_come_back_whatever_happens(seed: int, most: int) -> None:
    rng = random.Random(seed)

    async def run() -> None:
        limit = AdaptiveLimit(most)
        running = 0

        async def work(turns: int, fails: bool) -> None:
            nonlocal running
            async with limit:
                running += 1
                assert running <= most
                since = time.monotonic()
                try:
                    for _ in range(turns):
                        await asyncio.sleep(0)
                finally:
                    running -= 1
                limit.overloaded(since) if fails else limit.succeeded()
                if fails:
                    raise ConnectionError

        tasks = [asyncio.create_task(work(rng.randint(0, 3), rng.random() < 0.2)) for _ in range(40)]
        for _ in range(12):
            await asyncio.sleep(0)
            rng.choice(tasks).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (limit.in_flight, running) == (0, 0)
        assert 1 <= limit.limit <= most
        async with asyncio.timeout(5), limit:
            assert limit.in_flight == 1

    asyncio.run(run())


async def test_overload_halves_once_a_round_and_success_adds_one_a_round() -> None:
    limit = AdaptiveLimit(100, start=64)
    begun = time.monotonic()
    for _ in range(64):
        limit.overloaded(begun)
    assert limit.limit == 32
    for _ in range(5):
        limit.overloaded(time.monotonic())
    assert limit.limit == 1
    for _ in range(1000):
        limit.succeeded()
    assert limit.limit == 1  # with nothing in flight, success says nothing about the bound
    limit = AdaptiveLimit(34, start=32)
    limit.in_flight = 32
    for _ in range(32):
        limit.succeeded()
    assert 32.9 < limit.limit < 33.0
    for _ in range(100):
        limit.succeeded()
    assert limit.limit == 34


def test_what_an_upstream_said_is_shown_short_on_one_line_and_without_secrets() -> None:
    upstream = Upstream(
        "https://me:hidden-one@host/v1?api-version=2",
        api_key="sk-hidden-two",
        headers={"X-Api-Key": "hidden-three", "X-Team": "openly-told"},
    )
    said = upstream.shown("sk-hidden-two\n hidden-one  hidden-three openly-told " + "x" * 1000)
    assert said.startswith("*** *** *** openly-told xxx")
    assert len(said) == 300
    assert upstream.name == "https://host/v1"
    assert str(upstream.url("chat/completions")).endswith("host/v1/chat/completions?api-version=2")
