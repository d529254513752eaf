"""A bad reply costs its own choice, is tried again where that can help, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import email.utils
import os
import random
import time

import pytest
from heard import hear, request
from upstreams import Upstream, scripted
from waiting import until

from fathom.errors import UpstreamError
from fathom.language.engines.base import Finish
from fathom.language.engines.openai import OpenAIEngine
from fathom.language.engines.upstream import RetryPolicy

QUICK = RetryPolicy(base=0.001)
whole_or_streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@whole_or_streamed
@pytest.mark.parametrize(
    ("fault", "says", "status"),
    [
        ("400", "answered 400: fault 400", 400),
        ("401", "check the API key", 401),
        ("403", "answered 403", 403),
        ("404", "check the model's name", 404),
        ("malformed", "no chat completion", None),
        ("not json", "a proxy's page", None),
        ("empty choices", "without choices", None),
        ("wrong types", "Expected `int`, got `str`", None),
        ("302", "answered 302", 302),
    ],
)
async def test_a_bad_reply_costs_one_choice_and_says_why(
    fault: str, says: str, status: int | None, stream: bool
) -> None:
    with Upstream(many=1) as server:
        engine = OpenAIEngine("m", server.url, "sk-very-secret", retry=QUICK)
        await hear(engine, n=2)  # by which it knows that n is ignored
        server.bodies.clear()
        server.fault = scripted(None, None, fault)
        heard = await hear(engine, n=8, stream=stream)
        await engine.aclose()
    failed = [choice for choice in heard if choice.finish is Finish.FAILED]
    assert len(failed) == 1
    assert len(server.bodies) == 8
    error = failed[0].error
    assert isinstance(error, UpstreamError)
    assert (error.status, error.retryable) == (status, False)
    assert says in str(error)
    assert "very-secret" not in str(error)
    assert len(str(error)) < 600


async def test_a_whole_choice_without_text_fails() -> None:
    with Upstream(fault=scripted("null content")) as server:
        engine = OpenAIEngine("m", server.url)
        (choice,) = await hear(engine, stream=False)
        await engine.aclose()
    assert choice.finish is Finish.FAILED
    assert "without text" in str(choice.error)


@whole_or_streamed
@pytest.mark.parametrize("fault", ["408", "409", "425", "429", "500", "502", "503", "reset", "error object"])
async def test_what_may_pass_is_tried_again(fault: str, stream: bool) -> None:
    with Upstream(fault=scripted(fault, fault)) as server:
        engine = OpenAIEngine("m", server.url, retry=QUICK)
        (choice,) = await hear(engine, seed=7, stream=stream)
        await engine.aclose()
    assert choice.text == "The answer is 7."
    assert len(server.bodies) == 3
    assert server.bodies[0] == server.bodies[2]


@whole_or_streamed
@pytest.mark.parametrize(("fault", "status"), [("500", 500), ("reset", None)])
async def test_trying_ends(fault: str, status: int | None, stream: bool) -> None:
    with Upstream(fault=lambda number: fault) as server:
        engine = OpenAIEngine("m", server.url, retry=RetryPolicy(tries=3, base=0.001))
        (choice,) = await hear(engine, stream=stream)
        await engine.aclose()
    assert len(server.bodies) == 3
    assert isinstance(choice.error, UpstreamError)
    assert (choice.error.status, choice.error.retryable) == (status, True)


async def test_a_stream_that_breaks_off_costs_its_choice_but_not_its_text() -> None:
    with Upstream(fault=scripted("truncated")) as server:
        engine = OpenAIEngine("m", server.url, retry=QUICK)
        (choice,) = await hear(engine, seed=1)
        await engine.aclose()
    assert (choice.text, choice.tokens, choice.finish) == ("The answer", 2, Finish.FAILED)
    assert choice.last.estimated
    assert isinstance(choice.error, UpstreamError)
    assert choice.error.retryable
    assert len(server.bodies) == 1


async def test_a_whole_reply_that_breaks_off_is_tried_again() -> None:
    with Upstream(fault=scripted("half")) as server:
        engine = OpenAIEngine("m", server.url, retry=QUICK)
        (choice,) = await hear(engine, seed=1, stream=False)
        await engine.aclose()
    assert choice.text == "The answer is 1."


async def test_choices_of_a_broken_stream_that_had_not_begun_are_asked_for_again() -> None:
    with Upstream(fault=scripted(None, "truncated")) as server:
        engine = OpenAIEngine("m", server.url, retry=QUICK)
        await hear(engine, n=4)
        heard = await hear(engine, n=4, seed=0)
        await engine.aclose()
    assert [choice.finish for choice in heard] == [Finish.FAILED, Finish.FAILED, Finish.STOP, Finish.STOP]
    assert [choice.text for choice in heard] == ["The", "The", "The answer is 2.", "The answer is 3."]


@whole_or_streamed
@pytest.mark.parametrize("fault", ["malformed", "empty choices", "reset"])
async def test_a_garbled_reply_for_many_choices_is_asked_for_again(fault: str, stream: bool) -> None:
    with Upstream(fault=scripted(fault)) as server:
        engine = OpenAIEngine("m", server.url, retry=QUICK)
        heard = await hear(engine, n=3, seed=0, stream=stream)
        await engine.aclose()
    assert [choice.text for choice in heard] == [f"The answer is {k}." for k in range(3)]
    assert [body["n"] for body in server.bodies] == [3, 3]


@whole_or_streamed
async def test_a_page_instead_of_a_reply_is_quoted(stream: bool) -> None:
    with Upstream(fault=scripted("page")) as server:
        engine = OpenAIEngine("m", server.url)
        (choice,) = await hear(engine, stream=stream)
        await engine.aclose()
    assert "<html>log in first</html>" in str(choice.error)
    assert len(server.bodies) == 1


async def test_a_redirection_is_reported_and_not_followed() -> None:
    with Upstream(fault=scripted("307"), headers={"Location": "http://127.0.0.1:9/v2"}) as server:
        engine = OpenAIEngine("m", server.url)
        (choice,) = await hear(engine)
        await engine.aclose()
    assert "moved to http://127.0.0.1:9/v2" in str(choice.error)


async def test_an_error_inside_a_stream_ends_the_choice() -> None:
    events = [
        'data: {"choices":[{"index":0,"delta":{"content":"So"}}]}',
        'data: {"error":{"message":"out of memory","code":503}}',
    ]
    with Upstream(events=events) as server:
        engine = OpenAIEngine("m", server.url)
        (choice,) = await hear(engine)
        await engine.aclose()
    assert (choice.text, choice.finish) == ("So", Finish.FAILED)
    assert isinstance(choice.error, UpstreamError)
    assert choice.error.status == 503
    assert "out of memory" in str(choice.error)


@whole_or_streamed
async def test_a_reply_without_end_is_not_read_to_its_end(stream: bool) -> None:
    with Upstream(fault=scripted("huge")) as server:
        engine = OpenAIEngine("m", server.url, retry=QUICK)
        (choice,) = await hear(engine, stream=stream)
        await engine.aclose()
    assert choice.finish is Finish.FAILED
    assert "MiB" in str(choice.error)


@whole_or_streamed
async def test_a_silent_server_is_given_up(stream: bool) -> None:
    with Upstream(fault=scripted("hang")) as server:
        engine = OpenAIEngine("m", server.url, timeout=0.05)
        (choice,) = await hear(engine, stream=stream)
        await engine.aclose()
    assert choice.finish is Finish.FAILED
    assert isinstance(choice.error, UpstreamError)
    assert choice.error.retryable
    assert "0.05 s" in str(choice.error)


@whole_or_streamed
async def test_the_deadline_ends_what_hangs_and_keeps_what_came(stream: bool) -> None:
    with Upstream(many=1, fault=scripted(None, "hang", None, "hang")) as server:
        engine = OpenAIEngine("m", server.url)
        heard = await hear(engine, n=4, stream=stream, deadline=time.monotonic() + 4)
        late = await hear(engine, n=2, deadline=time.monotonic() - 1)
        await engine.aclose()
    assert sorted(str(choice.finish) for choice in heard) == ["cancelled", "cancelled", "stop", "stop"]
    assert not any(choice.error for choice in heard)
    assert [choice.finish for choice in late] == [Finish.CANCELLED] * 2
    assert len(server.bodies) == 4


async def test_a_retry_that_would_begin_after_the_deadline_is_not_waited_for() -> None:
    with Upstream(fault=scripted("429"), headers={"Retry-After": "59"}) as server:
        engine = OpenAIEngine("m", server.url)
        start = time.monotonic()
        (choice,) = await hear(engine, deadline=start + 55)
        assert time.monotonic() - start < 50
        await engine.aclose()
    assert isinstance(choice.error, UpstreamError)
    assert choice.error.status == 429


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_is_waited_for(form: str) -> None:
    with Upstream(fault=scripted("429")) as server:
        engine = OpenAIEngine("m", server.url, retry=QUICK)
        start = time.time()
        until = float(int(start) + 2)
        server.headers["Retry-After"] = "0.5" if form == "seconds" else email.utils.formatdate(until, usegmt=True)
        (choice,) = await hear(engine)
        assert time.time() >= (start + 0.5 if form == "seconds" else until)
        await engine.aclose()
    assert choice.finish is Finish.STOP


async def test_a_server_that_asks_for_patience_gets_fewer_requests_at_once() -> None:
    with Upstream(many=1, delay=0.01, fault=scripted(*[None] * 3, *["429"] * 32)) as server:
        engine = OpenAIEngine("m", server.url, retry=RetryPolicy(tries=33, base=0.001), max_concurrency=32)
        await hear(engine, n=3)
        heard = await hear(engine, n=32)
        lane = await engine.upstream.lane()
        assert lane.limit.limit < 32
        assert lane.limit.in_flight == 0
        await engine.aclose()
    assert all(choice.finish is Finish.STOP for choice in heard)


async def test_an_unreachable_server_says_where_it_was_sought() -> None:
    engine = OpenAIEngine("m", "http://user:pass-word@127.0.0.1:9/v1?key=1", retry=QUICK)
    heard = await hear(engine, n=2)
    await engine.aclose()
    for choice in heard:
        assert "http://127.0.0.1:9/v1: cannot connect" in str(choice.error)
        assert choice.prompt_tokens == 0
    assert "pass-word" not in repr(engine)


async def test_nothing_is_left_behind_by_many_faulty_batches() -> None:
    faults = ("400", "429", "500", "hang", "reset", "malformed", "truncated", "empty choices")
    rng = random.Random(5)

    def fault(number: int) -> str | None:
        return rng.choice(faults) if number % 8 == 7 else None

    with Upstream(many=1) as server:
        engine = OpenAIEngine("m", server.url, retry=QUICK, max_concurrency=16)
        await hear(engine, n=16)
        await asyncio.sleep(0.2)
        before = len(os.listdir("/dev/fd")) - 2 * server.connections
        server.fault = fault
        for round_ in range(12):
            heard = await hear(engine, n=16, stream=bool(round_ % 2), deadline=time.monotonic() + 0.6)
            assert {choice.finish for choice in heard} <= {Finish.STOP, Finish.FAILED, Finish.CANCELLED}
        lane = await engine.upstream.lane()
        assert lane.limit.in_flight == 0
        assert len(asyncio.all_tasks()) == 1
        await until(lambda: not server.running and len(os.listdir("/dev/fd")) - 2 * server.connections <= before)
        assert server.connections <= 16
        server.fault = lambda number: None
        assert all(choice.finish is Finish.STOP for choice in await hear(engine, n=16))
        await engine.aclose()


async def test_a_generation_cancelled_while_it_waits_gives_its_turn_back() -> None:
    with Upstream(many=1, delay=0.02) as server:
        engine = OpenAIEngine("m", server.url, max_concurrency=2)
        for wait in (0.0, 0.005, 0.03):
            async with engine.generate(request(n=10)):
                await asyncio.sleep(wait)
        lane = await engine.upstream.lane()
        assert lane.limit.in_flight == 0
        assert all(choice.finish is Finish.STOP for choice in await hear(engine, n=4))
        await engine.aclose()
