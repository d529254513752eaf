"""Streams read as one: nothing is lost, nothing is left running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.merging import merged


async def giving(
    items: list[int], closed: list[int], error: Exception | None = None, pause: int = 0
) -> AsyncGenerator[int, None]:
    try:
        for item in items:
            for _ in range(pause):
                await asyncio.sleep(0)
            yield item
        if error is not None:
            raise error
    finally:
        closed.append(len(items))


@given(st.lists(st.tuples(st.lists(st.integers(), max_size=5), st.integers(0, 3)), max_size=5))
def test_all_of_each_stream_comes_in_its_order(streams: list[tuple[list[int], int]]) -> None:
    async def read() -> list[tuple[int, int]]:
        async def tagged(k: int, items: list[int], pause: int) -> AsyncGenerator[tuple[int, int], None]:
            async for item in giving(items, [], pause=pause):
                yield k, item

        return [pair async for pair in merged([tagged(k, *stream) for k, stream in enumerate(streams)])]

    found = asyncio.run(read())
    for k, (items, _) in enumerate(streams):
        assert [item for of, item in found if of == k] == items
    assert len(found) == sum(len(items) for items, _ in streams)


@pytest.mark.parametrize("others", [[], [[5, 6, 7]]])
async def test_an_error_is_raised_and_costs_the_others_nothing(others: list[list[int]]) -> None:
    found, closed = list[int](), list[int]()
    streams = [giving([1], closed, ValueError("broken")), *(giving(items, closed, pause=3) for items in others)]

    async def read() -> None:
        async for item in merged(streams):
            found.append(item)

    with pytest.raises(ValueError, match="broken"):
        await read()
    assert sorted(found) == sorted([1, *(item for items in others for item in items)])
    assert len(closed) == 1 + len(others)


@pytest.mark.parametrize("streams", [1, 3])
async def test_leaving_closes_all(streams: int) -> None:
    closed: list[int] = []
    reading = merged([giving(list(range(100)), closed, pause=1) for _ in range(streams)])
    assert await anext(reading) == 0
    await reading.aclose()
    assert closed == [100] * streams
    assert asyncio.all_tasks() == {asyncio.current_task()}
