"""``POST /v1/responses``: the same answers in OpenAI's newer form. Nothing is stored between requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web

from fathom.budget import Meter
from fathom.errors import FathomError
from fathom.records import ToolCall
from fathom.serve import chat, thinking
from fathom.serve.asking import Ask, ask_of, options_of
from fathom.serve.gateway import Gateway
from fathom.serve.models import choose
from fathom.serve.plain import Plain
from fathom.serve.refusal import Refused, refused
from fathom.serve.replies import Events, json_reply, new_id, now
from fathom.serve.responses_wire import ResponsesRequest, renamed
from fathom.serve.wire import ChatCompletion, Report, Usage

__all__ = ["respond"]


async def respond(gateway: Gateway, request: web.BaseRequest) -> web.StreamResponse:
    """Answer. Raises FathomError where the reply has not begun."""
    client = gateway.keys.client_of(request.headers)
    said = await gateway.read(request, ResponsesRequest)
    served = choose(gateway.models, said.model)
    try:
        asked = said.as_chat()
        ask = await ask_of(asked, options_of(asked.fathom, request.headers), served, gateway.config)
    except Refused as error:
        raise renamed(error) from None
    meter = gateway.meter(request, ask)
    try:
        async with gateway.visit(request, client, ask, meter):
            if not said.stream:
                return json_reply(await _whole(gateway, said, ask, meter))
            events = Events(request)
            try:
                return await _stream(gateway, said, ask, meter, events)
            except Exception as error:
                return await events.fail(error, served.masks, "error")
            finally:
                if events.began is not None:
                    gateway.metrics.first.labels(served.id).observe(events.began - meter.started)
    except FathomError as error:
        raise refused(error, served.masks) from error


@dataclass(eq=False)
class _Item:
    """One item of the output, as far as it has come: thoughts, a message, or the call of a function with its
    arguments."""

    kind: Literal["reasoning", "message", "function_call"]
    text: str = ""
    status: str = "completed"
    call: ToolCall | None = None

    def __post_init__(self) -> None:
        self.id = new_id(_PREFIXES[self.kind])

    @property
    def told(self) -> dict[str, Any]:
        said: dict[str, Any] = {"type": self.kind, "id": self.id, "status": self.status}
        begun = self.status == "in_progress"
        if self.call is not None:
            return {**said, "call_id": self.call.id, "name": self.call.name, "arguments": self.text}
        if self.kind == "reasoning":
            return {**said, "summary": [] if begun else [_summary(self.text)]}
        return {**said, "role": "assistant", "content": [] if begun else [_part(self.text)]}


_PREFIXES = {"reasoning": "rs", "message": "msg", "function_call": "fc"}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _summary(text: str) -> dict[str, Any]:
    return {"type": "summary_text", "text": text}


async def _whole(gateway: Gateway, said: ResponsesRequest, ask: Ask, meter: Meter) -> Mapping[str, Any]:
    reply = await chat.answer(gateway, ask, meter)
    choice = reply.choices[0]
    items: list[_Item] = []
    if choice.message.reasoning_content:
        items.append(_Item("reasoning", choice.message.reasoning_content))
    if choice.message.content or not choice.message.tool_calls:
        items.append(_Item("message", choice.message.content or ""))
    for call in choice.message.tool_calls or ():
        called = ToolCall(call.id, call.function.name, "")
        items.append(_Item("function_call", call.function.arguments, call=called))
    return _response(new_id("resp"), said, items, choice.finish_reason, reply.usage, reply.fathom)


class _Stream:
    """The events of one response: its items grow side by side, and end together."""

    def __init__(self, events: Events, said: ResponsesRequest) -> None:
        self.items: list[_Item] = []
        self._events = events
        self._said = said
        self._id = new_id("resp")
        self._number = 0
        self._thoughts: _Item | None = None
        self._message: _Item | None = None
        self._calls: dict[int, _Item] = {}

    async def think(self, text: str) -> None:
        """More of the thoughts, or of how they stand."""
        if self._thoughts is None:
            self._thoughts = await self._begin(_Item("reasoning", status="in_progress"))
            kind = "response.reasoning_summary_part.added"
            await self._send_of(self._thoughts, kind, summary_index=0, part=_summary(""))
        self._thoughts.text += text
        await self._send_of(self._thoughts, "response.reasoning_summary_text.delta", summary_index=0, delta=text)

    async def say(self, text: str) -> None:
        """More of the message."""
        if self._message is None:
            self._message = await self._begin(_Item("message", status="in_progress"))
            await self._send_of(self._message, "response.content_part.added", content_index=0, part=_part(""))
        self._message.text += text
        if text:
            kind = "response.output_text.delta"
            await self._send_of(self._message, kind, content_index=0, delta=text, logprobs=[])

    async def call(self, at: int, call_id: str, name: str, arguments: str) -> None:
        """More of a call: its id and name where it begins, then its arguments."""
        item = self._calls.get(at)
        if item is None:
            item = _Item("function_call", status="in_progress", call=ToolCall(call_id, name, ""))
            self._calls[at] = await self._begin(item)
        item.text += arguments
        if arguments:
            await self._send_of(item, "response.function_call_arguments.delta", delta=arguments)

    async def end(self, finish: str, usage: Usage, report: Report | None) -> None:
        """Everything has been said."""
        if self._message is None and not self._calls:
            await self.say("")
        for index, item in enumerate(self.items):
            item.status = "completed"
            await self._end(item)
            await self._send("response.output_item.done", output_index=index, item=item.told)
        ended = "response.incomplete" if finish == "length" else "response.completed"
        await self._send(ended, response=_response(self._id, self._said, self.items, finish, usage, report))

    async def _end(self, item: _Item) -> None:
        if item.call is not None:
            called = {"name": item.call.name, "arguments": item.text}
            await self._send_of(item, "response.function_call_arguments.done", **called)
        elif item.kind == "reasoning":
            await self._send_of(item, "response.reasoning_summary_text.done", summary_index=0, text=item.text)
            kind = "response.reasoning_summary_part.done"
            await self._send_of(item, kind, summary_index=0, part=_summary(item.text))
        else:
            text = {"content_index": 0, "text": item.text, "logprobs": []}
            await self._send_of(item, "response.output_text.done", **text)
            await self._send_of(item, "response.content_part.done", content_index=0, part=_part(item.text))

    async def _begin(self, item: _Item) -> _Item:
        if not self.items:
            begun = _response(self._id, self._said, (), None, None, None)
            await self._send("response.created", response=begun)
            await self._send("response.in_progress", response=begun)
        self.items.append(item)
        await self._send("response.output_item.added", output_index=len(self.items) - 1, item=item.told)
        return item

    async def _send_of(self, item: _Item, kind: str, **more: Any) -> None:
        await self._send(kind, item_id=item.id, output_index=self.items.index(item), **more)

    async def _send(self, kind: str, **more: Any) -> None:
        await self._events.send({"type": kind, "sequence_number": self._number, **more}, kind)
        self._number += 1


async def _stream(
    gateway: Gateway, said: ResponsesRequest, ask: Ask, meter: Meter, events: Events
) -> web.StreamResponse:
    stream = _Stream(events, said)
    if ask.strategy is None:
        plain = Plain(ask, meter, stream=True, most_seconds=gateway.config.limits.seconds)
        async with aclosing(plain.pieces()) as pieces:
            async for piece in pieces:
                if piece.reasoning:
                    await stream.think(piece.reasoning)
                if piece.text:
                    await stream.say(piece.text)
                for part in piece.calls:
                    await stream.call(part.index, part.id, part.name, part.arguments)
        await stream.end(chat.finish_of(plain.choices[0]), chat.usage_of(plain), plain.report)
    else:
        reply = await _thought_over(gateway, ask, meter, stream)
        choice = reply.choices[0]
        if choice.message.content:
            await stream.say(choice.message.content)
        for at, call in enumerate(choice.message.tool_calls or ()):
            await stream.call(at, call.id, call.function.name, call.function.arguments)
        await stream.end(choice.finish_reason, reply.usage, reply.fathom)
    return await events.end(b"")


async def _thought_over(gateway: Gateway, ask: Ask, meter: Meter, stream: _Stream) -> ChatCompletion:
    """The answer of a search; how it stands goes out meanwhile."""
    run = await thinking.prepare(ask, meter)
    async with aclosing(thinking.watch(run, gateway)) as updates:
        async for update in updates:
            if update.final is not None:
                return chat.completed(ask, update.final)
            await stream.think(thinking.in_words(update))
    raise AssertionError("the last update has the result")


def _response(
    id: str,
    said: ResponsesRequest,
    items: Iterable[_Item],
    finish: str | None,
    usage: Usage | None,
    report: Report | None,
) -> Mapping[str, Any]:
    """A response, which is under way where it has no ``finish``, a chat's word for why it ended."""
    cut = finish == "length"
    return {
        "id": id,
        "object": "response",
        "created_at": now(),
        "status": "in_progress" if finish is None else "incomplete" if cut else "completed",
        "model": said.model,
        "output": [item.told for item in items],
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": said.instructions,
        "metadata": said.metadata or {},
        "parallel_tool_calls": said.parallel_tool_calls is not False,
        "temperature": said.temperature,
        "top_p": said.top_p,
        "tool_choice": said.tool_choice or "auto",
        "tools": said.tools or [],
        "usage": None if usage is None else _usage(usage),
        "fathom": report,
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": usage.prompt_tokens_details,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": usage.completion_tokens_details,
        "total_tokens": usage.total_tokens,
    }
