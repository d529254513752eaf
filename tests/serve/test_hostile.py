"""Whatever is sent, the gateway says what is wrong with it and lives on: no 5xx."""

from __future__ import annotations

import asyncio
import gzip
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import aiohttp
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from upstreams import Upstream
from waiting import until

from fathom.serve.openapi import document

SERVE = [sys.executable, "-c", "from fathom.cli import main; main()", "serve", "--port", "0"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A gateway in a process of its own."""
    with Upstream() as upstream, Running(upstream) as (process, address):
        yield address
        assert process.poll() is None


class Running:
    """``fathom serve`` in front of an upstream: the process, and where it listens."""

    def __init__(self, upstream: Upstream) -> None:
        self.command = [*SERVE, "--model", f"openai:m@{upstream.url}"]

    def __enter__(self) -> tuple[subprocess.Popen[str], str]:
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        return self.process, self.process.stdout.readline().split()[-1]

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.communicate()


def post(
    url: str, body: bytes, path: str = "/v1/chat/completions", said: dict[str, str] | None = None
) -> tuple[int, bytes]:
    async def send() -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", **(said or {})}
        async with aiohttp.ClientSession() as session, session.post(url + path, data=body, headers=headers) as reply:
            return reply.status, await reply.read()

    return asyncio.run(send())


def fine(status: int, reply: bytes) -> bool:
    """Whether it is no 5xx, but those that say what a deadline leads to that nobody could keep."""
    return status < 500 or any(b'"code":"%b"' % code in reply for code in (b"no_answer", b"overloaded"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("n", "stop", "seed", "temperature", "logprobs", "stream", "fathom", "messages", "reasoning_effort")
FIELDS += ("tools", "tool_choice", "parallel_tool_calls", "top_logprobs", "logit_bias", "response_format")
bounded = settings(max_examples=60, suppress_health_check=list(HealthCheck))


@bounded
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=3))
def test_any_json_in_any_field(url: str, fields: dict[str, Any]) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    status, reply = post(url, msgspec.json.encode(body))
    assert fine(status, reply), reply


@bounded
@given(st.binary(max_size=200) | JSON.map(msgspec.json.encode))
def test_any_bytes(url: str, body: bytes) -> None:
    status, reply = post(url, body)
    assert 400 <= status < 500
    assert msgspec.json.decode(reply)["error"]["message"]


@bounded
@given(st.sampled_from(["strategy", "verify"]), st.text(alphabet="abevot-(),=[]|\"' 19", max_size=30))
def test_any_spec(url: str, field: str, spec: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "fathom": {field: spec, "width": 1}}
    status, reply = post(url, msgspec.json.encode(body))
    assert fine(status, reply), reply


@bounded
@given(st.dictionaries(st.sampled_from(["type", "properties", "enum", "$ref", "pattern", "allOf"]), JSON), JSON)
def test_any_schema_and_tool(url: str, schema: dict[str, Any], more: Any) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": more}]
    for fields in ({"tools": [tool], "fathom": {"strategy": "vote", "width": 2}}, {"response_format": format}):
        body = {"model": "m", "messages": turns[:1], **fields}
        assert fine(*post(url, msgspec.json.encode(body)))
    assert fine(*post(url, msgspec.json.encode({"model": "m", "messages": turns})))


NUMBERS = ("n", "seed", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_logprobs")
BUDGETS = ("within", "tokens", "width", "depth", "cost", "calls", "memory")


@bounded
@given(
    st.sampled_from([*(f'"{name}": %s' for name in NUMBERS), *(f'"fathom": {{"{name}": %s}}' for name in BUDGETS)]),
    st.sampled_from(["", "-"]),
    st.sampled_from([17, 20, 310, 4300, 5001, 20_000]),
    st.sampled_from(["", ".5", "e400", "e-400"]),
)
def test_numbers_of_any_length(url: str, field: str, sign: str, digits: int, rest: str) -> None:
    number = f"{sign}{'9' * digits}{rest}"
    body = f'{{"model": "m", "messages": [{{"role": "user", "content": "hi"}}], {field % number}}}'
    status, reply = post(url, body.encode())
    assert fine(status, reply), reply


@bounded
@given(
    st.sampled_from(BUDGETS),
    st.sampled_from(["{}", "-{}", "{}s", "{}GiB", "{}e400", "nan", "inf"]),
    st.sampled_from([1, 310, 5001]),
)
def test_amounts_of_any_length_as_text(url: str, name: str, form: str, digits: int) -> None:
    amount = form.format("9" * digits)
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    status, reply = post(url, msgspec.json.encode(body), said={f"X-Fathom-{name}": amount})
    assert fine(status, reply), reply
    if name in ("within", "memory"):
        status, reply = post(url, msgspec.json.encode({**body, "fathom": {name: amount}}))
        assert fine(status, reply), reply


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
@bounded
@given(st.binary(min_size=1, max_size=200) | JSON.map(msgspec.json.encode))
def test_bodies_that_are_not_what_their_encoding_says(url: str, encoding: str, body: bytes) -> None:
    status, reply = post(url, body, said={"Content-Encoding": encoding})
    assert 400 <= status < 500
    assert msgspec.json.decode(reply)["error"]["message"]


def test_a_compressed_body_is_read_and_one_that_is_none_told(url: str) -> None:
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    said = {"Content-Encoding": "gzip"}
    assert post(url, gzip.compress(body), said=said)[0] == 200
    status, reply = post(url, body, said=said)
    assert (status, msgspec.json.decode(reply)["error"]["code"]) == (400, "invalid_body")
    assert post(url, gzip.compress(b" " * (50 << 20)), said=said)[0] == 413


def test_deep_nesting_and_large_bodies(url: str) -> None:
    assert post(url, b"[" * 100_000)[0] == 400
    assert post(url, b" " * (3 << 20))[0] == 413
    assert post(url, b'{"model": "m", "messages": [{"role": "user", "content": "\xff"}]}')[0] == 400


@pytest.mark.slow
def test_what_the_openapi_document_allows_is_answered(url: str) -> None:
    schema = schemathesis.openapi.from_dict(msgspec.json.decode(document()))

    @bounded
    @given(case=schema["/v1/chat/completions"]["POST"].as_strategy())
    def send(case: schemathesis.Case) -> None:
        reply = case.call(base_url=url)
        assert fine(reply.status_code, reply.content), reply.content

    send()


@pytest.mark.slow
def test_sigterm_lets_what_runs_come_to_its_end() -> None:
    with Upstream(delay=1.0) as upstream, Running(upstream) as (process, url):

        async def scenario() -> tuple[int, int]:
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
            async with aiohttp.ClientSession() as session:
                asked = asyncio.create_task(session.post(url + "/v1/chat/completions", json=body))
                await until(lambda: upstream.running)
                process.send_signal(signal.SIGTERM)
                reply = await asked
                await reply.read()
                return reply.status, await asyncio.to_thread(process.wait, 120)

        assert asyncio.run(scenario()) == (200, 0)
