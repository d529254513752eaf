"""A chat completions server on loopback, for tests and benchmarks: real HTTP, made-up model, faults on demand.

In tests it runs in a thread (``with Upstream(...) as server``), so that engines on any event loop can reach it. As a
program (``python tests/upstreams.py --delay 0.02``) it prints its base URL and serves until its standard input closes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
from aiohttp import web

PROMPT_TOKENS = 11
SLOW = 5.0  # seconds that the fault "slow" adds
VLLM_TOO_LONG = (
    "'max_tokens' or 'max_completion_tokens' is too large: {asked}. This model's maximum context length is {context} "
    "tokens and your request has {prompt} input tokens ({asked} > {context} - {prompt})."
)


def answer(body: dict[str, Any], choice: int) -> list[str]:
    """The tokens of one choice: they tell the seed, so a test sees which draw is whose."""
    return ["The", " answer", " is", f" {body.get('seed', 0) + choice}", "."]


def scripted(*faults: str | None) -> Callable[[int], str | None]:
    """The fault of the i-th request from a list; none after its end."""
    return lambda number: faults[number] if number < len(faults) else None


@dataclass
class Upstream:
    """One server. ``many`` is the most choices that it gives for one request, whatever n asks for.

    ``fault`` names what goes wrong with the i-th request (counted from 0), or None. ``refused`` maps fields of a
    request to the message of the 400 that they bring. ``delay`` is the time before anything comes, ``step`` the time
    between tokens, both in seconds. ``owner`` is what ``/models`` says the server is.
    """

    many: int = 1_000
    delay: float = 0.0
    step: float = 0.0
    tokens: Callable[[dict[str, Any], int], list[str]] = answer
    fault: Callable[[int], str | None] = lambda number: None
    refused: dict[str, str] = field(default_factory=dict)
    bound: int = 1  # a refused n is one above it
    usage: bool = True
    logprobs: bool = True
    streams: bool = True
    calls: Callable[[dict[str, Any], int], list[tuple[str, str]]] | None = None  # of tools, by name and arguments
    events: list[str] | None = None  # the exact events of every stream, instead of the model's
    whole: dict[str, Any] | None = None  # every whole reply, instead of the model's
    account: dict[str, Any] = field(default_factory=dict)  # what replies and last events say beside choices and usage
    owner: str = "nobody"
    context: int = 0  # of prompt and reply together, where it is bounded
    too_long: str = VLLM_TOO_LONG  # what it says of more
    headers: dict[str, str] = field(default_factory=dict)  # of faulty replies
    port: int = 0  # any that is free

    def __post_init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.sent_headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.peers: list[object] = []  # the client's end of the connection that each request came by
        self.disconnected = 0
        self.running = 0
        self.most_running = 0
        self.url = ""

    @property
    def connections(self) -> int:
        """Open connections, as the server counts them."""
        return len(self._runner.server.connections) if self._runner.server else 0

    # -- running ----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(ready.set),), daemon=True)
        self._thread.start()
        assert ready.wait(120)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(120)

    async def _serve(self, ready: Callable[[], None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._models)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        ready()
        await self._stop.wait()
        await self._runner.cleanup()

    # -- answering --------------------------------------------------------------------------------------------------

    async def _models(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        return web.json_response({"data": [{"id": "m", "owned_by": self.owner, "max_model_len": 4096}]})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        number = len(self.bodies)
        body = msgspec.json.decode(await request.read())
        self.bodies.append(body)
        self.paths.append(request.path)
        self.sent_headers.append(dict(request.headers))
        self.peers.append(request.transport and request.transport.get_extra_info("peername"))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if self.delay:
                await asyncio.sleep(self.delay)
            fault = self.fault(number)
            if fault == "slow":
                await asyncio.sleep(SLOW)
            elif fault:
                return await self._go_wrong(fault, request, body)
            for name, message in self.refused.items():
                if name in body and (name != "n" or body["n"] > self.bound):
                    return _error(400, message, param=name)
            if self.context and (asked := body.get("max_tokens", 0)) > self.context - PROMPT_TOKENS:
                numbers = {"context": self.context, "prompt": PROMPT_TOKENS, "asked": asked}
                return _error(400, self.too_long.format(**numbers, all=PROMPT_TOKENS + asked))
            if body.get("stream") and self.streams:
                return await self._stream(request, body)
            return web.json_response(text=self._whole(body))
        except ConnectionResetError:  # the client left between two events
            self.disconnected += 1
            raise asyncio.CancelledError from None
        except asyncio.CancelledError:
            self.disconnected += 1
            raise
        finally:
            self.running -= 1

    def _choices(self, body: dict[str, Any]) -> list[tuple[list[str], str]]:
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or sys.maxsize
        drawn = [self.tokens(body, k) for k in range(min(body.get("n", 1), self.many))]
        return [(tokens[:limit], "length" if len(tokens) > limit else "stop") for tokens in drawn]

    def _usage(self, choices: list[tuple[list[str], str]]) -> dict[str, Any]:
        return {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": sum(len(tokens) for tokens, _ in choices),
            "prompt_tokens_details": {"cached_tokens": 3},
        }

    def _logprobs(self, body: dict[str, Any], tokens: list[str]) -> dict[str, Any] | None:
        if not (self.logprobs and body.get("logprobs")):
            return None
        top = [{"token": f"top{k}", "logprob": -float(k)} for k in range(body.get("top_logprobs", 0))]
        return {"content": [{"token": token, "logprob": -len(token) / 8, "top_logprobs": top} for token in tokens]}

    def _calls(self, body: dict[str, Any], choice: int) -> list[dict[str, Any]]:
        called = self.calls(body, choice) if self.calls is not None else []
        return [
            {"id": f"call-{choice}-{k}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for k, (name, arguments) in enumerate(called)
        ]

    def _whole(self, body: dict[str, Any]) -> str:
        if self.whole is not None:
            return _json(self.whole)
        choices = self._choices(body)
        reply: dict[str, Any] = {"object": "chat.completion", "choices": []}
        for k, (tokens, reason) in enumerate(choices):
            message = {"role": "assistant", "content": "".join(tokens)}
            if calls := self._calls(body, k):
                message, reason = {"role": "assistant", "content": None, "tool_calls": calls}, "tool_calls"
            choice = {"index": k, "message": message, "finish_reason": reason, "logprobs": self._logprobs(body, tokens)}
            reply["choices"].append(choice)
        if self.usage:
            reply |= {"usage": self._usage(choices), **self.account}
        return _json(reply)

    async def _stream(
        self, request: web.Request, body: dict[str, Any], stop_after: int | None = None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        steps = [event + "\n\n" for event in self.events] if self.events is not None else self._steps(body)
        if stop_after is not None:
            await response.write(b"\n\n".join("".join(steps).encode().split(b"\n\n")[:stop_after]) + b"\n\n")
            _abort(request)
            return response
        for at, step in enumerate(steps):
            if self.step and at:
                await asyncio.sleep(self.step)
            await response.write(step.encode())
        await response.write_eof()
        return response

    def _steps(self, body: dict[str, Any]) -> Iterator[str]:
        """The events of a stream; those of one step, a token of every choice, are sent together."""
        choices = self._choices(body)
        for k in range(len(choices)):
            if calls := self._calls(body, k):
                yield "".join(_called(k, at, call) for at, call in enumerate(calls)) + _event(k, {}, "tool_calls", None)
                choices[k] = ([], "")
        for at in range(max(len(tokens) for tokens, _ in choices) + 1):
            step = ""
            for k, (tokens, reason) in enumerate(choices):
                if at < len(tokens):
                    step += _event(k, {"content": tokens[at]}, None, self._logprobs(body, tokens[at : at + 1]))
                elif at == len(tokens) and reason:
                    step += _event(k, {}, reason, None)
            yield step
        if self.usage and body.get("stream_options", {}).get("include_usage"):
            yield f"data: {_json({'choices': [], 'usage': self._usage(choices), **self.account})}\n\n"
        yield "data: [DONE]\n\n"

    async def _go_wrong(self, fault: str, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if fault.isdigit():
            said = f"fault {fault}; your key was {request.headers.get('Authorization', 'absent')}"
            return _error(int(fault), said, headers=self.headers)
        match fault:
            case "hang":
                await asyncio.sleep(3600)
            case "reset":
                _abort(request)
            case "malformed":
                return _reply(request, body, '{"choices": [{"index": 0, "mess')
            case "page":
                return web.Response(text="<html>log in first</html>", content_type="text/html")
            case "not json":
                return _reply(request, body, "<html>a proxy's page</html>")
            case "empty choices":
                return _reply(request, body, '{"choices": []}')
            case "null content":
                return _reply(request, body, '{"choices": [{"index": 0, "message": {"content": null}}]}')
            case "wrong types":
                return _reply(request, body, '{"choices": [{"index": "one", "message": {"content": 4}}]}')
            case "error object":
                return _reply(request, body, '{"error": {"message": "the model fell over", "code": 500}}')
            case "huge":
                kind = "text/event-stream" if body.get("stream") else "application/json"
                response = web.StreamResponse(headers={"Content-Type": kind})
                await response.prepare(request)
                while True:
                    await response.write(b" " * (1 << 20))
            case "half":
                text = self._whole(body)
                response = web.StreamResponse(headers={"Content-Length": str(len(text))})
                await response.prepare(request)
                await response.write(text[: len(text) // 2].encode())
                _abort(request)
            case "truncated":
                return await self._stream(request, {**body, "stream": True}, stop_after=2)
        return web.Response()


def _event(index: int, delta: dict[str, Any], reason: str | None, logprobs: dict[str, Any] | None) -> str:
    choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": logprobs}
    return f"data: {_json({'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"


def _called(choice: int, at: int, call: dict[str, Any]) -> str:
    """The events of one tool call: its head, then its arguments in halves."""
    arguments = call["function"]["arguments"]
    head = {**call, "index": at, "function": {**call["function"], "arguments": ""}}
    parts = [head] + [
        {"index": at, "function": {"arguments": part}}
        for part in (arguments[: len(arguments) // 2], arguments[len(arguments) // 2 :])
    ]
    return "".join(_event(choice, {"tool_calls": [part]}, None, None) for part in parts)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _reply(request: web.Request, body: dict[str, Any], text: str) -> web.Response:
    if body.get("stream"):
        return web.Response(text=f"data: {text}\n\ndata: [DONE]\n\n", content_type="text/event-stream")
    return web.Response(text=text, content_type="application/json")


def _error(status: int, message: str, param: str | None = None, headers: dict[str, str] | None = None) -> web.Response:
    error = {"message": message, "type": "fault", "param": param, "code": None}
    return web.json_response({"error": error}, status=status, headers=headers)


def _abort(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


def main() -> None:
    """Serve until standard input closes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--delay", type=float, default=0.02)
    parser.add_argument("--many", type=int, default=1_000, help="most choices per request; 1 ignores n")
    parser.add_argument("--fault-every", type=int, default=0, help="every k-th request goes wrong")
    parser.add_argument("--slow-every", type=int, default=0, help="every k-th request is slow by 5 s")
    options = parser.parse_args()
    faults = ("400", "500", "hang", "reset") if options.fault_every else ("slow",)

    def fault(number: int) -> str | None:
        every = options.fault_every or options.slow_every
        return faults[number // every % len(faults)] if every and number % every == every - 1 else None

    with Upstream(many=options.many, delay=options.delay, fault=fault) as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
