"""Events are cut as the standard says, however they arrive; error bodies of every shape are understood."""

from __future__ import annotations

import json
import random

import pytest
from heard import hear
from hypothesis import given
from hypothesis import strategies as st
from upstreams import Upstream

from fathom.language.engines.base import Finish, Sampling
from fathom.language.engines.openai import OpenAIEngine
from fathom.language.engines.openai_wire import EVENT_BYTES, EventStream, refusal

LINE = st.binary(max_size=20).map(lambda line: line.replace(b"\r", b"r").replace(b"\n", b"n").lstrip(b" "))


@given(
    events=st.lists(st.lists(LINE, min_size=1, max_size=3), max_size=6),
    seed=st.integers(),
    end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_events_come_out_as_they_went_in(events: list[list[bytes]], seed: int, end: bytes) -> None:
    rng = random.Random(seed)
    lines = [b"\xef\xbb\xbf: begins" if rng.random() < 0.3 else b": begins"]
    for event in events:
        for line in event:
            lines += rng.choices([b": a comment", b"event: message", b"id: 7", b"retry: 10"], k=rng.randint(0, 1))
            lines.append(rng.choice([b"data: ", b"data:"]) + line)
        lines.append(b"")
    stream = end.join(lines) + end
    parser, out = EventStream(), []
    while stream:
        size = rng.randint(1, 12)
        out += parser.feed(stream[:size])
        stream = stream[size:]
    assert out + parser.close() == [b"\n".join(event) for event in events]


def test_a_last_event_without_its_blank_line_is_still_given() -> None:
    parser = EventStream()
    assert parser.feed(b"data: 1\n\ndata: 2") == [b"1"]
    assert parser.close() == [b"2"]


def test_an_event_of_absurd_size_is_refused() -> None:
    parser = EventStream()
    parser.feed(b"data: " + b"x" * (EVENT_BYTES // 2))
    with pytest.raises(ValueError, match="MiB"):
        parser.feed(b"x" * (EVENT_BYTES // 2))


def test_comments_take_no_room() -> None:
    parser = EventStream()
    line = b": " + b"x" * (1 << 20) + b"\n"
    for _ in range(EVENT_BYTES // (1 << 20) + 2):
        assert parser.feed(line) == []
    assert parser.feed(b"data: 1\n\n") == [b"1"]


@pytest.mark.parametrize(
    ("body", "message", "fields", "status"),
    [
        (
            {"error": {"message": "no seed here", "param": "seed", "code": "unsupported"}},
            "no seed here",
            ("seed",),
            None,
        ),
        ({"error": {"message": "busy", "code": 503}}, "busy", (), 503),
        ({"error": "model not found"}, "model not found", (), None),
        ({"object": "error", "message": "too long", "code": 400}, "too long", (), 400),
        ({"detail": "Not Found"}, "Not Found", (), None),
        (
            {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "type": "extra_forbidden"}]},
            "body.seed: Extra inputs are not permitted",
            ("seed",),
            None,
        ),
    ],
)
def test_error_bodies(body: object, message: str, fields: tuple[str, ...], status: int | None) -> None:
    said = refusal(json.dumps(body).encode())
    assert (said.message, said.fields, said.status) == (message, fields, status)
    assert refusal(body) == said


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "detail", "param", "code", "loc", "msg"]), inner, max_size=4
        )
    ),
)


@given(JSON)
def test_no_error_body_is_too_strange(body: object) -> None:
    assert isinstance(refusal(json.dumps(body).encode()).message, str)


@given(st.binary(max_size=50))
def test_an_error_body_may_be_anything(body: bytes) -> None:
    assert isinstance(refusal(body).message, str)


def event(index: int, **delta: str) -> str:
    return "data: " + json.dumps({"choices": [{"index": index, "delta": delta}]})


def end(index: int, reason: str = "stop", **more: object) -> str:
    return "data: " + json.dumps({"choices": [{"index": index, "delta": {}, "finish_reason": reason}], **more})


def usage(tokens: int, prompt: int = 5) -> str:
    return "data: " + json.dumps({"choices": [], "usage": {"completion_tokens": tokens, "prompt_tokens": prompt}})


DONE = "data: [DONE]"


@pytest.mark.parametrize(
    ("events", "text", "tokens", "estimated"),
    [
        ([event(0, content="a"), event(0, content="b"), end(0), usage(2), DONE], "ab", 2, False),
        ([event(0, content="a b c"), end(0), usage(3), DONE], "a b c", 3, False),
        ([event(0, content="a"), event(0, content="b"), end(0), usage(1), DONE], "ab", 1, False),
        ([event(0, content="a"), event(0, content="b"), end(0), DONE], "ab", 2, True),
        ([event(0, content="a"), event(0, content="b"), end(0)], "ab", 2, True),
        ([event(0, content="a"), DONE], "a", 1, True),
        ([event(0, content=""), end(0), usage(1), DONE], "", 1, False),
        ([event(0, content="a"), end(0, usage={"completion_tokens": 4, "prompt_tokens": 5}), DONE], "a", 4, False),
        ([": one\r\n\r", event(0, content="ä"), "event: x\nid: 1", end(0), usage(9), DONE], "ä", 9, False),
        ([event(0, content="a"), event(7, content="!"), end(0), event(0, content="!"), usage(1), DONE], "a", 1, False),
    ],
)
async def test_streams_of_one_choice(events: list[str], text: str, tokens: int, estimated: bool) -> None:
    with Upstream(events=events) as server:
        engine = OpenAIEngine("m", server.url)
        (choice,) = await hear(engine)
        await engine.aclose()
    assert (choice.text, choice.tokens, choice.finish) == (text, tokens, Finish.STOP)
    assert choice.last.estimated is estimated
    assert choice.prompt_tokens == (0 if estimated else 5)


async def test_a_reasoning_channel_is_kept_apart() -> None:
    events = [event(0, reasoning_content="2 and 2"), event(0, reasoning=" make 4"), event(0, content="4"), end(0), DONE]
    with Upstream(events=events) as server:
        engine = OpenAIEngine("m", server.url)
        (choice,) = await hear(engine)
        await engine.aclose()
    assert (choice.reasoning, choice.text) == ("2 and 2 make 4", "4")


async def test_accounts_of_single_choices_are_theirs() -> None:
    events = [
        *(event(k, content=str(k)) for k in (1, 0, 1, 2, 0)),
        *(end(1), usage(3)),
        *(event(k, content=str(k)) for k in (0, 2)),
        *(end(0, "length"), usage(4), end(2), usage(2), DONE),
    ]
    with Upstream(events=events) as server:
        engine = OpenAIEngine("m", server.url)
        heard = await hear(engine, n=3)
        await engine.aclose()
    assert [choice.text for choice in heard] == ["000", "11", "22"]
    assert [choice.tokens for choice in heard] == [4, 3, 2]
    assert [choice.prompt_tokens for choice in heard] == [5, 5, 5]
    assert [choice.finish for choice in heard] == [Finish.LENGTH, Finish.STOP, Finish.STOP]


@pytest.mark.parametrize(("reason", "finish"), [("length", Finish.LENGTH), ("eos", Finish.STOP), ("stop", Finish.STOP)])
async def test_reasons_to_end(reason: str, finish: Finish) -> None:
    with Upstream(events=[event(0, content="a"), end(0, reason), DONE]) as server:
        engine = OpenAIEngine("m", server.url)
        (choice,) = await hear(engine)
        await engine.aclose()
    assert choice.finish is finish


@pytest.mark.parametrize(("reason", "says"), [("content_filter", "content filter"), ("abort", "aborted")])
async def test_reasons_that_are_failures(reason: str, says: str) -> None:
    with Upstream(events=[event(0, content="a"), end(0, reason), usage(1), DONE]) as server:
        engine = OpenAIEngine("m", server.url)
        (choice,) = await hear(engine)
        await engine.aclose()
    assert (choice.finish, choice.tokens) == (Finish.FAILED, 1)
    assert says in str(choice.error)


async def test_a_server_that_never_sends_its_account_is_not_waited_for() -> None:
    with Upstream(events=[event(0, content="a"), end(0), *["", ": still here"] * 100], step=0.1) as server:
        engine = OpenAIEngine("m", server.url)
        (choice,) = await hear(engine)
        await engine.aclose()
    assert (choice.text, choice.finish, choice.last.estimated) == ("a", Finish.STOP, True)
    assert server.disconnected == 1


async def test_a_server_that_does_not_stream_is_understood_all_the_same() -> None:
    reply = {"choices": [{"message": {"content": "seven", "reasoning": "hm"}, "finish_reason": "stop"}]}
    with Upstream(whole=reply, streams=False) as server:
        engine = OpenAIEngine("m", server.url)
        (choice,) = await hear(engine)
        await engine.aclose()
    assert (choice.text, choice.reasoning, choice.finish) == ("seven", "hm", Finish.STOP)
    assert choice.last.estimated
    assert choice.tokens > 0


@pytest.mark.parametrize("logprobs", [False, True])
async def test_a_count_of_the_first_choice_is_not_taken_for_the_whole(logprobs: bool) -> None:
    def choice(index: int, tokens: list[str]) -> dict[str, object]:
        logs = {"content": [{"logprob": -1.0}] * len(tokens)} if logprobs else None
        return {"index": index, "message": {"content": " ".join(tokens)}, "finish_reason": "stop", "logprobs": logs}

    reply = {
        "choices": [choice(0, ["aa"] * 10), choice(1, ["bb"] * 30)],
        "usage": {"completion_tokens": 10, "prompt_tokens": 4},
        "timings": {"predicted_n": 10},
    }
    with Upstream(whole=reply) as server:
        engine = OpenAIEngine("m", server.url)
        heard = await hear(engine, n=2, stream=False, sampling=Sampling(logprobs=logprobs))
        assert [choice.tokens for choice in heard] == [10, 30]
        assert heard[1].last.estimated is not logprobs
        # From now on such a server is asked for a stream, in which it counts every choice.
        assert sum(choice.tokens for choice in await hear(engine, n=2, stream=False)) == 10
        await engine.aclose()
    assert [body.get("stream", False) for body in server.bodies] == [False, True]


async def test_a_refusal_by_the_model_is_its_answer() -> None:
    reply = {"choices": [{"message": {"content": None, "refusal": "I would rather not."}}]}
    with Upstream(whole=reply) as server:
        engine = OpenAIEngine("m", server.url)
        (choice,) = await hear(engine, stream=False)
        await engine.aclose()
    assert (choice.text, choice.finish) == ("I would rather not.", Finish.STOP)
