"""Chat completions through the gateway, seen by OpenAI's own client."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from house import ASKED, House, Open
from upstreams import Upstream, scripted
from waiting import until

from fathom.serve.config import EffortEntry, Limits, ModelEntry


def agreed(body: dict[str, Any], choice: int) -> list[str]:
    """Three in four say 391."""
    said = "17" if (body.get("seed", 0) + choice) % 4 == 0 else "391"
    return ["Seven", " tens", " ...", f" \\boxed{{{said}}}"]


async def test_a_plain_completion_passes_the_request_on_as_it_is(house: House, upstream: Upstream) -> None:
    reply = await house.ask(temperature=0.3, top_p=0.9, stop=["END"], seed=5, presence_penalty=0.5, max_tokens=99)
    assert reply.choices[0].message.content == "The answer is 5."
    assert reply.choices[0].finish_reason == "stop"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (11, 5)
    assert reply.usage.prompt_tokens_details.cached_tokens == 3
    assert reply.fathom["strategy"] == "direct"
    (sent,) = upstream.bodies
    assert sent["messages"] == ASKED
    assert {
        name: sent[name] for name in ("temperature", "top_p", "stop", "seed", "presence_penalty", "max_tokens")
    } == {
        "temperature": 0.3,
        "top_p": 0.9,
        "stop": ["END"],
        "seed": 5,
        "presence_penalty": 0.5,
        "max_tokens": 99,
    }


@pytest.mark.parametrize("temperature", [0, 0.3])
async def test_what_is_said_of_sampling_holds_for_every_sample(
    house: House, upstream: Upstream, temperature: float
) -> None:
    said = {"temperature": temperature, "top_p": 0.9, "frequency_penalty": 0, "stop": ["END"]}
    await house.ask(**said, fathom={"strategy": "vote", "width": 4})
    assert upstream.bodies
    for sent in upstream.bodies:
        assert {name: sent.get(name) for name in said} == said


@pytest.mark.parametrize("fathom", [None, {"strategy": "vote", "width": 4}])
async def test_what_the_model_s_uri_says_of_sampling_holds_where_the_request_says_nothing(
    open_house: Open, upstream: Upstream, fathom: dict[str, Any] | None
) -> None:
    house = await open_house(entry=ModelEntry(uri=f"openai:m@{upstream.url}(temperature=0.2, top_k=20)"))
    await house.ask(fathom=fathom)
    assert {(sent["temperature"], sent["top_k"]) for sent in upstream.bodies} == {(0.2, 20)}
    upstream.bodies.clear()
    await house.ask(fathom=fathom, temperature=0, top_p=0.5)
    assert {(s["temperature"], s["top_p"], s["top_k"]) for s in upstream.bodies} == {(0, 0.5, 20)}


async def test_n_choices_of_a_plain_completion(house: House) -> None:
    reply = await house.ask(n=3, seed=7)
    assert [choice.message.content for choice in reply.choices] == [f"The answer is {k}." for k in (7, 8, 9)]
    assert reply.usage.completion_tokens == 15


async def test_a_length_that_was_reached_is_told(house: House) -> None:
    reply = await house.ask(max_completion_tokens=2)
    assert reply.choices[0].message.content == "The answer"
    assert reply.choices[0].finish_reason == "length"


async def test_a_vote_gives_the_winner_s_whole_text_and_its_receipt(house: House, upstream: Upstream) -> None:
    upstream.tokens = agreed
    reply = await house.ask(seed=1, fathom={"strategy": "vote(stop=never)", "width": 8})
    assert reply.choices[0].message.content == "Seven tens ... \\boxed{391}"
    receipt = reply.fathom
    assert receipt["answer"] == "391"
    assert [(c["answer"], c["votes"]) for c in receipt["candidates"]] == [("391", 6), ("17", 2)]
    assert receipt["spent"]["width"] == 8
    assert receipt["model"] == "m"
    assert reply.usage.completion_tokens == 32 == receipt["spent"]["tokens"]
    assert reply.usage.completion_tokens_details.reasoning_tokens == 28


@pytest.mark.parametrize(("effort", "width"), [("minimal", 1), ("low", 4), ("medium", 8), ("high", 16)])
async def test_an_effort_is_a_width(house: House, effort: str, width: int) -> None:
    reply = await house.ask(reasoning_effort=effort)
    assert reply.fathom["limits"]["width"] == width


async def test_efforts_are_the_operator_s_to_define_and_within_the_limits(open_house: Open, upstream: Upstream) -> None:
    efforts = {"high": EffortEntry(width=64, strategy="vote(stop=never)"), "low": EffortEntry(strategy="direct")}
    entry = ModelEntry(uri=f"openai:m@{upstream.url}", efforts=efforts)  # type: ignore[arg-type]
    house = await open_house(entry=entry, limits=Limits(width=5))
    high = await house.ask(reasoning_effort="high")
    assert high.fathom["spent"]["width"] == 5
    assert high.fathom["strategy"] == "vote(stop=never)"
    assert (await house.ask(reasoning_effort="low")).fathom["strategy"] == "direct"
    assert (await house.ask(reasoning_effort="none")).fathom["strategy"] == "direct"


async def test_headers_say_what_the_body_does_not(house: House) -> None:
    headers = {"X-Fathom-Width": "3", "X-Fathom-Strategy": "vote(stop=never)"}
    reply = await house.ask(extra_headers=headers)
    assert reply.fathom["spent"]["width"] == 3
    reply = await house.ask(extra_headers=headers, fathom={"width": 2})
    assert reply.fathom["spent"]["width"] == 2


async def test_a_deadline_is_kept_by_a_plain_completion(house: House, upstream: Upstream) -> None:
    upstream.step = 1.5
    reply = await house.ask(fathom={"strategy": "direct", "within": "2s"})
    assert reply.choices[0].finish_reason == "length"
    assert "The answer is 0.".startswith(reply.choices[0].message.content)
    assert reply.fathom["stopped"] == "deadline"


async def test_no_answer_by_the_deadline_is_an_error_not_worth_repeating(house: House, upstream: Upstream) -> None:
    upstream.delay = 30
    for fathom in ({"strategy": "direct", "within": 0.1}, {"strategy": "vote", "within": 0.1}):
        with pytest.raises(openai.InternalServerError) as caught:
            await house.ask(fathom=fathom)
        assert caught.value.status_code == 504
        assert caught.value.code == "no_answer"
        assert caught.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("options", "param", "code"),
    [
        ({"extra_body": {"fathon": {}}}, "fathon", "unknown_parameter"),
        ({"fathom": {"widht": 3}}, "fathom.widht", "unknown_parameter"),
        ({"fathom": {"width": 1000}}, "fathom.width", "invalid_limit"),
        ({"fathom": {"width": 0}}, "fathom.width", "invalid_value"),
        ({"fathom": {"within": "soon"}}, "fathom.within", "invalid_limit"),
        ({"fathom": {"within": "2h"}}, "fathom.within", "invalid_limit"),
        ({"fathom": {"strategy": "vot"}}, "fathom.strategy", "invalid_strategy"),
        ({"fathom": {"strategy": "vote(width=2000)"}}, "fathom.strategy", "invalid_limit"),
        ({"fathom": {"strategy": "vote(("}}, "fathom.strategy", "invalid_strategy"),
        ({"temperature": 9}, "temperature", "invalid_value"),
        ({"n": 100}, "n", "invalid_limit"),
        ({"n": 2, "fathom": {"strategy": "vote", "width": 1}}, "n", "invalid_limit"),
        ({"store": True}, "store", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type", None),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name(
    house: House, upstream: Upstream, options: dict[str, Any], param: str, code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await house.ask(**options)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.param is None or caught.value.param.startswith(param.partition("[")[0])
    assert code in (None, caught.value.code)
    assert not upstream.bodies


async def test_the_operator_s_own_names_may_say_anything(open_house: Open, upstream: Upstream) -> None:
    house = await open_house(strategies={"checked": "best-of-n(judge=tests, width=2)"})
    upstream.tokens = lambda body, choice: ["```python\ndef f():\n    return 1\n```"]
    reply = await house.ask(fathom={"strategy": "checked", "form": "code"})
    assert reply.fathom["strategy"].startswith("best-of-n")


@pytest.mark.parametrize("strategy", ["direct", "vote"])
async def test_upstream_errors_are_told_without_its_address(upstream: Upstream, house: House, strategy: str) -> None:
    for fault in ("400", "not json"):
        upstream.fault = lambda number, fault=fault: fault
        with pytest.raises(openai.APIStatusError) as caught:
            await house.ask(fathom={"strategy": strategy, "width": 1})
        assert caught.value.status_code == (400 if (fault, strategy) == ("400", "direct") else 502)
        assert "the upstream of m" in str(caught.value)
        assert upstream.url not in str(caught.value)


async def test_the_client_s_own_retries_get_over_an_upstream_s_weakness(house: House, upstream: Upstream) -> None:
    upstream.fault = scripted("malformed")
    patient = house.client.with_options(max_retries=2)
    upstream.fault = scripted("page")
    with pytest.raises(openai.InternalServerError):
        await patient.chat.completions.create(model="m", messages=ASKED)  # type: ignore[arg-type]
    assert (await patient.chat.completions.create(model="m", messages=ASKED)).choices  # type: ignore[arg-type]


async def test_an_unknown_model_is_not_found(house: House) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await house.ask(model="gpt-9")
    assert caught.value.code == "model_not_found"


async def test_models_are_listed(house: House) -> None:
    assert [model.id async for model in house.client.models.list()] == ["m"]
    assert (await house.client.models.retrieve("m")).id == "m"
    with pytest.raises(openai.NotFoundError):
        await house.client.models.retrieve("other")


async def test_the_synchronous_client_works_too(house: House) -> None:
    def ask() -> str | None:
        with openai.OpenAI(base_url=house.url + "/v1", api_key="none") as client:
            return client.chat.completions.create(model="m", messages=ASKED).choices[0].message.content  # type: ignore[arg-type]

    assert await asyncio.to_thread(ask) == "The answer is 0."


async def test_the_client_s_timeout_ends_the_upstream_s_work(house: House, upstream: Upstream) -> None:
    upstream.delay = 30
    with pytest.raises(openai.APITimeoutError):
        await house.client.with_options(timeout=2.0).chat.completions.create(model="m", messages=ASKED)  # type: ignore[arg-type]
    await until(lambda: not upstream.running)
    assert upstream.disconnected == 1
