"""Cancelling reaches the server, connections are kept and closed, and one engine serves several event loops."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading

import pytest
from heard import hear, request
from upstreams import Upstream
from waiting import until

from fathom.errors import EngineError
from fathom.language.engines.base import Finish
from fathom.language.engines.openai import OpenAIEngine

whole_or_streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


async def test_cancelling_one_choice_of_many_leaves_the_others() -> None:
    with Upstream(step=0.002, tokens=lambda body, choice: [f"{choice} "] * (50_000 if choice == 1 else 20)) as server:
        engine = OpenAIEngine("m", server.url)
        texts = {0: "", 1: "", 2: ""}
        finishes = {}
        cut = ""
        async with engine.generate(request(n=3)) as generation:
            async for piece in generation:
                assert piece.index not in finishes
                texts[piece.index] += piece.text
                if piece.finish:
                    finishes[piece.index] = piece.finish
                if piece.index == 1 and len(texts[1]) >= 10 and not cut:
                    cut = texts[1]
                    generation.cancel(1)
                    generation.cancel(1)
        await engine.aclose()
    assert finishes == {0: Finish.STOP, 1: Finish.CANCELLED, 2: Finish.STOP}
    assert (texts[0], texts[1], texts[2]) == ("0 " * 20, cut, "2 " * 20)
    assert len(cut) < 200


async def test_the_tokens_of_a_cancelled_choice_are_still_in_the_total() -> None:
    with Upstream(step=0.002, tokens=lambda body, choice: ["w "] * (10 if choice else 30)) as server:
        engine = OpenAIEngine("m", server.url)
        total = 0
        async with engine.generate(request(n=2)) as generation:
            async for piece in generation:
                total += piece.tokens
                if piece.index == 1 and piece.text:
                    generation.cancel(1)
        await engine.aclose()
    assert total == 40


@whole_or_streamed
@pytest.mark.parametrize("many", [1000, 1])
async def test_cancelling_closes_the_upstream_requests(many: int, stream: bool) -> None:
    with Upstream(
        many=many, delay=0.0 if stream else 5.0, step=0.05, tokens=lambda body, choice: ["w "] * 200
    ) as server:
        engine = OpenAIEngine("m", server.url)
        pieces = []
        async with engine.generate(request(n=2, stream=stream)) as generation:
            await until(lambda: server.running > 0)
            if stream:
                async for piece in generation:
                    pieces.append(piece)
                    if len(pieces) == 2:
                        break
            generation.cancel(0)
            generation.cancel(1)
            async for piece in generation:
                pieces.append(piece)
            await until(lambda: server.running == 0)
        await engine.aclose()
    assert server.disconnected == len(server.bodies)
    assert [piece.finish for piece in pieces if piece.finish] == [Finish.CANCELLED] * 2
    assert all(piece.estimated for piece in pieces if piece.finish)
    assert sum(piece.prompt_tokens for piece in pieces) > 0


async def test_leaving_the_block_closes_everything_and_what_was_spent_can_still_be_read() -> None:
    with Upstream(step=0.05, tokens=lambda body, choice: ["w "] * 200) as server:
        engine = OpenAIEngine("m", server.url)
        async with engine.generate(request(n=3)) as generation:
            await anext(generation)
        await until(lambda: server.running == 0)
        rest = [piece async for piece in generation]
        await engine.aclose()
    assert server.disconnected == 1
    assert [piece.finish for piece in rest if piece.finish] == [Finish.CANCELLED] * 3
    assert len(asyncio.all_tasks()) == 1


async def test_connections_are_kept_from_request_to_request() -> None:
    with Upstream() as server:
        engine = OpenAIEngine("m", server.url)
        for _ in range(5):
            await hear(engine, stream=False)
        assert server.connections == 1
        for _ in range(20):
            await hear(engine)
        assert len(set(server.peers)) < 10  # a stream whose end does not come at once is not waited for
        await engine.aclose()
        await until(lambda: server.connections == 0)


def test_one_engine_serves_several_event_loops() -> None:
    with Upstream(delay=0.01) as server:
        engine = OpenAIEngine("m", server.url)
        heard = []

        def use() -> None:
            heard.append(asyncio.run(hear(engine, n=3, seed=5)))

        use()
        use()
        threads = [threading.Thread(target=use) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [[choice.text for choice in choices] for choices in heard] == [
            [f"The answer is {5 + k}." for k in range(3)]
        ] * 5
        # A loop that ends closes what the engine held in it.
        asyncio.run(until(lambda: server.connections == 0))
        asyncio.run(engine.aclose())


async def test_closing_reaches_the_connections_of_other_loops() -> None:
    with Upstream() as server:
        engine = OpenAIEngine("m", server.url)
        ready, done = threading.Event(), threading.Event()

        async def elsewhere() -> None:
            await hear(engine, stream=False)
            ready.set()
            await asyncio.to_thread(done.wait, 120)

        thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
        thread.start()
        assert await asyncio.to_thread(ready.wait, 120)
        await hear(engine, stream=False)
        assert server.connections == 2
        await engine.aclose()
        await engine.aclose()
        await until(lambda: server.connections == 0)
        done.set()
        thread.join()
        (choice,) = await hear(engine)
        assert choice.finish is Finish.FAILED
        assert isinstance(choice.error, EngineError)
        assert "closed" in str(choice.error)


async def test_cancelling_a_choice_that_only_waits_for_its_account_leaves_it_whole() -> None:
    said = 'data: {"choices":[{"index":0,"delta":{"content":"42"}}]}'
    end = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
    with Upstream(events=[f"{said}\n\n{end}", *[": nothing more"] * 50], step=0.02) as server:
        engine = OpenAIEngine("m", server.url)
        async with engine.generate(request()) as generation:
            first = await anext(generation)  # with which the end came, too
            generation.cancel(0)
            last = await anext(generation)
        await engine.aclose()
    assert (first.text, last.finish, last.estimated) == ("42", Finish.STOP, True)


async def test_cancelling_the_first_choice_of_a_server_that_ignores_n_closes_its_request() -> None:
    with Upstream(many=1, step=0.005, tokens=lambda body, choice: ["word "] * (60 if body["seed"] else 9999)) as server:
        engine = OpenAIEngine("m", server.url)
        finishes = {}
        async with engine.generate(request(n=2, seed=0)) as generation:
            async for piece in generation:
                if piece.index == 1 and not finishes:
                    generation.cancel(0)
                if piece.finish:
                    finishes[piece.index] = piece.finish
        await engine.aclose()
    assert finishes == {0: Finish.CANCELLED, 1: Finish.STOP}
    assert server.disconnected == 1


async def test_a_forgotten_engine_closes_its_connections(caplog: pytest.LogCaptureFixture) -> None:
    with Upstream() as server:
        engine = OpenAIEngine("m", server.url)
        await hear(engine, stream=False)
        assert server.connections == 1
        del engine
        gc.collect()
        await until(lambda: server.connections == 0)
    assert caplog.messages == []


def test_a_program_may_end_without_closing_anything() -> None:
    program = """
import sys
from fathom import portal
from fathom.language.engines.base import Prompt, Request
from fathom.language.engines.openai import OpenAIEngine
from fathom.records import Message

engine = OpenAIEngine("m", sys.argv[1])

async def ask():
    async with engine.generate(Request(Prompt((Message("user", "What?"),)), n=3)) as generation:
        return "".join([piece.text async for piece in generation if piece.index == 2])

print(portal.call(ask()))
"""
    with Upstream(many=1) as server:
        command = [sys.executable, "-W", "default", "-c", program, server.url]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("The answer is 0.\n", "", 0)


async def test_closing_an_engine_ends_what_runs() -> None:
    with Upstream(many=1) as server:
        engine = OpenAIEngine("m", server.url, max_concurrency=2)
        await hear(engine, n=2)
        server.delay = 60.0
        async with engine.generate(request(n=4)) as generation:
            await until(lambda: server.running == 2)
            await engine.aclose()
            ends = [piece async for piece in generation]
    assert [piece.finish for piece in ends] == [Finish.FAILED] * 4
    assert all("closed" in str(piece.error) for piece in ends)
