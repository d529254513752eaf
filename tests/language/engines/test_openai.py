"""What a generation brings: choices, tokens, parameters, whatever the server makes of n and of streaming."""

from __future__ import annotations

import asyncio
import random

import pytest
from aiohttp import web
from heard import hear, request
from upstreams import PROMPT_TOKENS, VLLM_TOO_LONG, Upstream
from waiting import until

from fathom.errors import CapabilityError, UpstreamError, UsageError
from fathom.language.engines.base import EngineCapability, Finish, Price, Sampling
from fathom.language.engines.openai import OpenAIEngine

whole_or_streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@whole_or_streamed
@pytest.mark.parametrize("many", [1000, 4, 1], ids=["n honoured", "four at most", "n ignored"])
async def test_every_choice_comes_once_and_the_tokens_are_the_servers(many: int, stream: bool) -> None:
    seed = random.randrange(1000)
    with Upstream(many=many) as server:
        engine = OpenAIEngine("m", server.url)
        for _ in range(3):
            heard = await hear(engine, n=9, seed=seed, stream=stream)
            assert sorted(choice.text for choice in heard) == sorted(f"The answer is {seed + k}." for k in range(9))
            assert [choice.finish for choice in heard] == [Finish.STOP] * 9
            assert sum(choice.tokens for choice in heard) == 45
            assert not any(choice.last.estimated for choice in heard)
        await engine.aclose()
    asked = [body.get("n", 1) for body in server.bodies]
    if many == 1000:
        assert asked == [9, 9, 9]
        assert sum(choice.prompt_tokens for choice in heard) == PROMPT_TOKENS - 3
        assert sum(choice.reused_tokens for choice in heard) == 3
    elif many == 4:  # noticed when the same few came twice
        assert asked[:-3] == [9, *[1] * 5, 9, *[1] * 5]
        assert asked[-3:] == [3, 3, 3]
    else:  # noticed at the first reply
        assert asked == [9, *[1] * 8, *[1] * 18]
    assert (EngineCapability.MANY in engine.traits.capabilities) == (many > 1)


@whole_or_streamed
@pytest.mark.parametrize("where", ["OpenAI", "llama.cpp", "vLLM"])
async def test_drafted_tokens_are_read_wherever_a_server_tells_of_them(where: str, stream: bool) -> None:
    accepted, rejected = random.randrange(1, 90), random.randrange(90)
    details = {"accepted_prediction_tokens": accepted, "rejected_prediction_tokens": rejected}
    metrics = {"num_draft_tokens": accepted + rejected, "num_accepted_draft_tokens": accepted, "num_spec_steps": 9}
    account = {
        "OpenAI": {"usage": {"prompt_tokens": 4, "completion_tokens": 15, "completion_tokens_details": details}},
        "llama.cpp": {"timings": {"draft_n": accepted + rejected, "draft_n_accepted": accepted}},
        "vLLM": {"metrics": {"speculative_decoding": metrics}},
    }[where]
    with Upstream(account=account) as server:
        engine = OpenAIEngine("m", server.url)
        heard = await hear(engine, n=3, stream=stream)
        server.account = {"metrics": {"speculative_decoding": None}, "timings": {}}
        silent = await hear(engine, n=3, stream=stream)
        await engine.aclose()
    assert sum(choice.accepted_draft_tokens for choice in heard) == accepted
    assert sum(choice.rejected_draft_tokens for choice in heard) == rejected
    assert sum(choice.accepted_draft_tokens + choice.rejected_draft_tokens for choice in silent) == 0


async def test_a_lost_choice_does_not_make_a_server_one_that_ignores_n() -> None:
    with Upstream() as server:
        engine = OpenAIEngine("m", server.url)
        await hear(engine, n=4)
        server.many = 3
        assert all(choice.finish is Finish.STOP for choice in await hear(engine, n=4))
        server.many = 1000
        await hear(engine, n=4)
        await engine.aclose()
    assert [body.get("n", 1) for body in server.bodies] == [4, 4, 1, 4]


async def test_a_server_that_ignores_n_is_found_out_while_it_streams() -> None:
    with Upstream(many=1, step=0.005, tokens=lambda body, choice: ["word "] * (60 if body["seed"] else 9999)) as server:
        engine = OpenAIEngine("m", server.url)
        ended: set[int] = set()
        async with engine.generate(request(n=3, seed=0)) as generation:
            while ended != {1, 2}:  # the first has still much to say
                piece = await anext(generation)
                if piece.finish:
                    ended.add(piece.index)
        await engine.aclose()
    assert [(body.get("n", 1), body["seed"]) for body in server.bodies] == [(3, 0), (1, 1), (1, 2)]


@pytest.mark.parametrize(
    ("message", "asked"),
    [
        ("Field 'n': Value must be between 1 <= value <= 4, but got 10", [10, 4, 3, 3]),
        ("n must be 1", [10, *[1] * 10]),
        ("parameter `n` is not supported", [10, *[1] * 10]),
    ],
)
async def test_a_refused_n_is_learned_once(message: str, asked: list[int]) -> None:
    with Upstream(refused={"n": message}, bound=4 if "4" in message else 1) as server:
        engine = OpenAIEngine("m", server.url)
        heard = await hear(engine, n=10, seed=0)
        assert sorted(choice.text for choice in heard) == sorted(f"The answer is {k}." for k in range(10))
        before = len(server.bodies)
        await hear(engine, n=10, seed=0)
        await engine.aclose()
    assert sorted(body.get("n", 1) for body in server.bodies[:before]) == sorted(asked)
    assert sorted(body.get("n", 1) for body in server.bodies[before:]) == sorted(asked[1:])


@whole_or_streamed
@pytest.mark.parametrize(
    ("field", "message", "capability"),
    [
        ("seed", "Unrecognized request argument supplied: seed", EngineCapability.SEED),
        ("logprobs", "This model does not support logprobs.", EngineCapability.LOGPROBS),
        ("stream_options", "Unknown parameter: 'stream_options'.", None),
        (
            "max_tokens",
            "Unsupported parameter: 'max_tokens' is not supported here. Use 'max_completion_tokens' instead.",
            None,
        ),
    ],
)
async def test_what_does_not_change_the_meaning_is_dropped_once(
    field: str, message: str, capability: EngineCapability | None, stream: bool
) -> None:
    with Upstream(refused={field: message}) as server:
        engine = OpenAIEngine("m", server.url)
        assert capability is None or capability in engine.traits.capabilities
        for _ in range(2):
            asked = request(n=2, seed=3, stream=stream, sampling=Sampling(logprobs=True, temperature=0.5))
            assert [choice.finish for choice in await hear(engine, asked)] == [Finish.STOP] * 2
        await engine.aclose()
    assert capability not in engine.traits.capabilities
    asked_with = [body for body in server.bodies if field in body]
    assert len(asked_with) == (1 if stream or field != "stream_options" else 0)
    assert len(server.bodies) == 2 + len(asked_with)
    if field == "max_tokens":
        assert server.bodies[-1]["max_completion_tokens"] == 256


@pytest.mark.parametrize(
    ("field", "sampling"),
    [
        ("temperature", Sampling(temperature=0.3)),
        ("stop", Sampling(stop=("x",))),
        ("response_format", Sampling(schema={"type": "object"})),
    ],
)
async def test_what_changes_the_meaning_is_never_dropped(field: str, sampling: Sampling) -> None:
    with Upstream(refused={field: f"Unsupported parameter: '{field}'"}) as server:
        engine = OpenAIEngine("m", server.url)
        (choice,) = await hear(engine, sampling=sampling)
        await engine.aclose()
    assert isinstance(choice.error, UpstreamError)
    assert choice.error.status == 400
    assert not choice.error.retryable
    assert f"Unsupported parameter: '{field}'" in str(choice.error)
    assert len(server.bodies) == 1


async def test_the_sampling_goes_to_the_server_as_it_is() -> None:
    sampling = Sampling(
        temperature=0.7,
        top_p=0.9,
        top_k=40,
        min_p=0.05,
        presence_penalty=0.1,
        frequency_penalty=-0.2,
        stop=("\n\n", "Q:"),
        logprobs=True,
        top_logprobs=3,
        schema={"type": "integer"},
        extra={"repetition_penalty": 1.1, "top_p": 0.8},
    )
    with Upstream() as server:
        engine = OpenAIEngine("some/model", server.url, "sk-abc", headers={"X-Team": "seven"})
        await hear(engine, n=2, seed=41, max_tokens=12, sampling=sampling)
        await hear(engine, stream=False)
        await engine.aclose()
    assert server.bodies[0] == {
        "model": "some/model",
        "messages": [{"role": "user", "content": "What is it?"}],
        "max_tokens": 12,
        "temperature": 0.7,
        "top_p": 0.8,
        "top_k": 40,
        "min_p": 0.05,
        "presence_penalty": 0.1,
        "frequency_penalty": -0.2,
        "stop": ["\n\n", "Q:"],
        "logprobs": True,
        "top_logprobs": 3,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": {"type": "integer"}},
        },
        "repetition_penalty": 1.1,
        "stream": True,
        "stream_options": {"include_usage": True},
        "n": 2,
        "seed": 41,
    }
    assert server.bodies[1] == {
        "model": "some/model",
        "messages": [{"role": "user", "content": "What is it?"}],
        "max_tokens": 256,
    }
    assert server.sent_headers[0]["Authorization"] == "Bearer sk-abc"
    assert server.sent_headers[0]["X-Team"] == "seven"


@pytest.mark.parametrize("field", ["messages", "model", "n", "stream", "stream_options", "seed"])
async def test_extra_cannot_take_over_what_the_engine_sets(field: str) -> None:
    engine = OpenAIEngine("m", "http://127.0.0.1:9/v1")
    with pytest.raises(UsageError, match=field):
        await hear(engine, sampling=Sampling(extra={field: 1}))
    with pytest.raises(UsageError, match="JSON"):
        await hear(engine, sampling=Sampling(extra={"x": object()}))
    await engine.aclose()


@whole_or_streamed
async def test_log_probabilities_come_token_by_token(stream: bool) -> None:
    with Upstream() as server:
        engine = OpenAIEngine("m", server.url)
        heard = await hear(engine, n=2, seed=8, stream=stream, sampling=Sampling(logprobs=True, top_logprobs=2))
        plain = await hear(engine, n=2, seed=8, stream=stream)
        await engine.aclose()
    for choice in heard:
        assert list(choice.logprobs) == [-len(t) / 8 for t in ("The", " answer", " is", f" {8}", ".")]
        assert list(choice.top_logprobs) == [(("top0", 0.0), ("top1", -1.0))] * 5
        assert choice.tokens == 5
    assert all(choice.logprobs == () for choice in plain)


@whole_or_streamed
async def test_log_probabilities_that_never_come_are_not_claimed_any_longer(stream: bool) -> None:
    with Upstream(logprobs=False) as server:
        engine = OpenAIEngine("m", server.url)
        (choice,) = await hear(engine, stream=stream, sampling=Sampling(logprobs=True))
        await engine.aclose()
    assert choice.text
    assert choice.logprobs == ()
    assert EngineCapability.LOGPROBS not in engine.traits.capabilities


async def test_token_limits_end_choices() -> None:
    with Upstream() as server:
        engine = OpenAIEngine("m", server.url)
        for stream in (False, True):
            for choice in await hear(engine, n=3, max_tokens=2, stream=stream):
                assert (choice.text, choice.finish) == ("The answer", Finish.LENGTH)
        await engine.aclose()


@whole_or_streamed
async def test_tokens_of_a_whole_reply_add_up_to_the_servers_count(stream: bool) -> None:
    def tokens(body: dict[str, object], choice: int) -> list[str]:
        return ["w" * random.Random(choice).randint(1, 9)] * random.Random(choice).randint(1, 40)

    with Upstream(tokens=tokens) as server:
        engine = OpenAIEngine("m", server.url)
        heard = await hear(engine, n=7, stream=stream)
        await engine.aclose()
    assert sum(choice.tokens for choice in heard) == sum(len(tokens({}, k)) for k in range(7))
    assert all(choice.tokens > 0 for choice in heard)


@pytest.mark.parametrize(
    ("mode", "owner", "sent"),
    [
        ("continue", "", {"continue_final_message": True, "add_generation_prompt": False}),
        ("native", "", {}),
        ("auto", "vllm", {"continue_final_message": True, "add_generation_prompt": False}),
        ("auto", "sglang", {"continue_final_message": True, "add_generation_prompt": False}),
        ("auto", "llamacpp", {}),
    ],
)
async def test_a_begun_turn_is_continued_in_the_servers_way(mode: str, owner: str, sent: dict[str, bool]) -> None:
    with Upstream(owner=owner, tokens=lambda body, choice: [" 7", "."]) as server:
        engine = OpenAIEngine("m", server.url, prefix=mode)
        assert (EngineCapability.PREFIX in engine.traits.capabilities) == (mode != "auto")
        for stream in (True, False):
            (choice,) = await hear(engine, prefix="The answer is", stream=stream)
            assert choice.text == " 7."
        await engine.aclose()
    assert EngineCapability.PREFIX in engine.traits.capabilities
    assert server.paths.count("/v1/models") == (mode == "auto")
    fields = {name: server.bodies[0].get(name) for name in ("continue_final_message", "add_generation_prompt")}
    assert {name: value for name, value in fields.items() if value is not None} == sent
    assert server.bodies[0]["messages"][-1] == {"role": "assistant", "content": "The answer is"}


async def test_a_begun_turn_that_the_server_repeats_is_given_once() -> None:
    with Upstream(tokens=lambda body, choice: ["The answer is", " 7."]) as server:
        engine = OpenAIEngine("m", server.url, prefix="native")
        (choice,) = await hear(engine, prefix="The answer is", stream=False)
        await engine.aclose()
    assert choice.text == " 7."


@pytest.mark.parametrize("mode", ["none", "auto"])
async def test_a_begun_turn_is_refused_where_the_server_is_not_known_to_continue_it(mode: str) -> None:
    with Upstream(owner="openai") as server:
        engine = OpenAIEngine("m", server.url, prefix=mode)
        with pytest.raises(CapabilityError, match="prefix='continue'"):
            await hear(engine, prefix="The answer is")
        await engine.aclose()
    assert server.bodies == []


async def test_identify_tells_what_the_server_says_of_the_model() -> None:
    with Upstream(owner="vllm") as server:
        engine = OpenAIEngine("m", server.url, price=Price(1.0, 2.0), parameters=7)
        assert engine.traits.context_length is None
        for _ in range(2):
            traits = await engine.identify()
        await engine.aclose()
    assert traits == engine.traits
    assert (traits.context_length, traits.version, traits.parameters) == (4096, "vllm", 7)
    assert traits.price == Price(1.0, 2.0)
    assert server.paths == ["/v1/models"]


async def test_identify_says_when_there_is_no_server() -> None:
    engine = OpenAIEngine("m", "http://127.0.0.1:9/v1")
    with pytest.raises(UpstreamError, match="is the server running"):
        await engine.identify()
    await engine.aclose()


async def test_no_more_requests_run_at_once_than_allowed() -> None:
    with Upstream(many=1) as server:
        engine = OpenAIEngine("m", server.url, max_concurrency=3)
        assert all(choice.finish is Finish.STOP for choice in await hear(engine, n=10))
        assert server.most_running <= 3
        server.delay = 60.0
        async with engine.generate(request(n=10)):
            await until(lambda: server.running == 3)
            await asyncio.sleep(0.1)
        await engine.aclose()
    assert server.most_running == 3


def test_an_engine_that_makes_no_sense_is_refused() -> None:
    for wrong in (
        {"base_url": "localhost:8000"},
        {"base_url": "ftp://host/v1"},
        {"base_url": "http://host:port/v1"},
        {"api_key": "sk-\n"},
        {"headers": {"X-A": "a\r\nX-B: b"}},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"max_concurrency": 0},
    ):
        with pytest.raises(UsageError):
            OpenAIEngine("m", **wrong)
    with pytest.raises(UsageError, match="name is empty"):
        OpenAIEngine("")
    with pytest.raises(UsageError, match="There are: auto, continue, native, none"):
        OpenAIEngine("m", prefix="contine")


async def test_requests_that_make_no_sense_are_refused() -> None:
    engine = OpenAIEngine("m", "http://127.0.0.1:9/v1")
    for wrong in ({"n": 0}, {"max_tokens": 0}):
        with pytest.raises(UsageError, match="1 or more"):
            engine.generate(request(**wrong))
    with pytest.raises(UsageError, match="async with"):
        await anext(engine.generate(request()))
    await engine.aclose()


async def test_the_environment_gives_the_server_and_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with Upstream() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-from-the-environment")
        engine = OpenAIEngine("m")
        await hear(engine)
        await engine.aclose()
    assert server.sent_headers[0]["Authorization"] == "Bearer sk-from-the-environment"
    assert "sk-from" not in repr(engine)
    assert server.url in repr(engine)


@pytest.mark.parametrize(
    "words",
    [
        VLLM_TOO_LONG,
        "This model's maximum context length is {context} tokens. However, you requested {all} tokens ({prompt} in the "
        "messages, {asked} in the completion). Please reduce the length of the messages or completion.",
        "Requested token count exceeds the model's maximum context length of {context} tokens. You requested a total "
        "of {all} tokens: {prompt} tokens from the input messages and {asked} tokens for the completion.",
    ],
    ids=["vllm", "openai", "sglang"],
)
async def test_where_the_context_is_too_short_what_it_has_left_is_asked_for(words: str) -> None:
    room = random.randrange(20, 200)
    with Upstream(context=PROMPT_TOKENS + room, too_long=words) as server:
        engine = OpenAIEngine("m", server.url)
        heard = await hear(engine, n=4, max_tokens=1024)
        await engine.aclose()
    assert all(choice.finish is Finish.STOP for choice in heard)
    assert [body["max_tokens"] for body in server.bodies] == [1024, room]


@whole_or_streamed
@pytest.mark.parametrize("count", [-100_000, -1, 10**18])
async def test_a_count_that_nobody_can_have_counted_is_as_good_as_none(count: int, stream: bool) -> None:
    usage = {"prompt_tokens": count, "completion_tokens": count, "prompt_tokens_details": {"cached_tokens": count}}
    with Upstream(account={"usage": usage}) as server:
        engine = OpenAIEngine("m", server.url)
        heard = await hear(engine, n=3, stream=stream)
        await engine.aclose()
    assert all(0 < choice.tokens < 100 for choice in heard)
    assert all(choice.prompt_tokens >= 0 and choice.reused_tokens == 0 for choice in heard)


@pytest.mark.parametrize("reply", [b'{"data": [{"id": "\xff"}]}', b"[" * 100_000, b"{", b"null"])
async def test_a_list_of_models_that_is_none_tells_nothing(reply: bytes) -> None:
    async def models(_: web.Request) -> web.Response:
        return web.Response(body=reply, content_type="application/json")

    app = web.Application()
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    engine = OpenAIEngine("m", f"http://127.0.0.1:{runner.addresses[0][1]}/v1")
    assert (await engine.identify()).context_length is None
    await engine.aclose()
    await runner.cleanup()
