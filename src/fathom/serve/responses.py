"""``POST /v1/responses``: the same answers in OpenAI's newer form, for text. Nothing is stored between requests."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from fathom.budget import Meter
from fathom.errors import FathomError
from fathom.serve import chat
from fathom.serve.asking import Ask, ask_of, options_of
from fathom.serve.gateway import Gateway
from fathom.serve.models import choose
from fathom.serve.plain import Plain
from fathom.serve.refusal import Refused, refused
from fathom.serve.replies import Events, json_reply, new_id, now
from fathom.serve.wire import (
    ChatMessage,
    ChatRequest,
    Count,
    Effort,
    Extensible,
    FathomOptions,
    Name,
    Part,
    Report,
    ResponseFormat,
    Schema,
    Usage,
)

__all__ = ["ResponsesRequest", "respond"]


class InputMessage(Extensible):
    """One turn. ``id`` and ``status`` are those of an earlier output that is sent back."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[dict[str, Any]]
    type: Literal["message"] = "message"
    id: str | None = None
    status: str | None = None


class Reasoning(Extensible):
    effort: Effort | None = None


class TextFormat(Extensible, rename={"definition": "schema"}):
    type: Literal["text", "json_object", "json_schema"]
    definition: dict[str, Any] | None = None
    name: Name = "answer"
    description: str | None = None
    strict: bool | None = None

    @property
    def as_chat(self) -> ResponseFormat:
        """The format as a chat names it."""
        if self.type != "json_schema" or self.definition is None:
            return ResponseFormat(self.type)
        return ResponseFormat(self.type, Schema(self.definition, self.name, self.description, self.strict))


class Text(Extensible):
    format: TextFormat | None = None


class ResponsesRequest(Extensible):
    """A request for a response, as far as it is about text."""

    model: Name
    input: str | Annotated[list[InputMessage], Meta(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    stream: bool | None = None
    reasoning: Reasoning | None = None
    text: Text | None = None
    fathom: FathomOptions | None = None
    # Accepted without effect, since they ask for nothing that the answer depends on.
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    store: Literal[False] | None = None
    truncation: Literal["disabled"] | None = None

    def as_chat(self) -> ChatRequest:
        """The chat that asks the same."""
        turns = [ChatMessage("system", self.instructions)] if self.instructions else []
        if isinstance(self.input, str):
            turns.append(ChatMessage("user", self.input))
        else:
            turns += [ChatMessage(turn.role, _text_of(turn.content)) for turn in self.input]
        return ChatRequest(
            self.model,
            turns,
            max_completion_tokens=self.max_output_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            response_format=self.text.format.as_chat if self.text and self.text.format else None,
            reasoning_effort=self.reasoning.effort if self.reasoning else None,
            fathom=self.fathom,
        )


def _text_of(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    try:
        parts = [msgspec.convert({k: v for k, v in part.items() if k in ("type", "text")}, Part) for part in content]
    except msgspec.ValidationError as error:
        raise Refused(
            400, f"input: only text is understood ({error})", code="unsupported_content", param="input"
        ) from None
    return "".join(part.text for part in parts)


async def respond(gateway: Gateway, request: web.BaseRequest) -> web.StreamResponse:
    """Answer. Raises FathomError where the reply has not begun."""
    client = gateway.keys.client_of(request.headers)
    said = await gateway.read(request, ResponsesRequest)
    served = choose(gateway.models, said.model)
    asked = said.as_chat()
    ask = await ask_of(asked, options_of(asked.fathom, request.headers), served, gateway.config)
    meter, id = gateway.meter(request, ask), new_id("resp")
    try:
        async with gateway.visit(client, ask, meter) as visit:
            if not said.stream:
                reply = await chat.answer(gateway, ask, meter)
                first = reply.choices[0]
                whole = first.finish_reason != "length"
                return json_reply(_response(id, said, first.message.content or "", whole, reply.usage, reply.fathom))
            events = Events(request)
            try:
                return await _stream(gateway, said, ask, meter, events, id)
            except FathomError as error:
                visit.error = error
                told = refused(error, served.masks)
                if events.began is not None:
                    await events.send({"type": "error", **msgspec.structs.asdict(told.body.error)}, "error")
                    return await events.end(b"")
                raise told from error
    except FathomError as error:
        raise refused(error, served.masks) from error


async def _stream(
    gateway: Gateway, said: ResponsesRequest, ask: Ask, meter: Meter, events: Events, id: str
) -> web.StreamResponse:
    """The events of one message of one part of text."""
    number, place = 0, {"item_id": f"msg-{id}", "output_index": 0, "content_index": 0}
    texts: list[str] = []

    async def send(kind: str, **more: Any) -> None:
        nonlocal number
        await events.send({"type": kind, "sequence_number": number, **more}, kind)
        number += 1

    async def begin() -> None:
        await send("response.created", response=_response(id, said, None, True, None, None))
        await send("response.output_item.added", output_index=0, item=_message(id, None))
        await send("response.content_part.added", **place, part=_part(""))

    async def say(text: str) -> None:
        if not texts:
            await begin()
        texts.append(text)
        await send("response.output_text.delta", **place, delta=text, logprobs=[])

    if ask.strategy is None:
        plain = Plain(ask, meter, stream=True, most_seconds=gateway.config.limits.seconds)
        async with aclosing(plain.pieces()) as pieces:
            async for piece in pieces:
                if piece.text:
                    await say(piece.text)
        usage, report = chat.usage_of(plain), plain.report
        whole = chat.finish_of(plain.choices[0]) != "length"
    else:
        reply = await chat.answer(gateway, ask, meter)
        usage, report, whole = reply.usage, reply.fathom or Report(), True
        await say(reply.choices[0].message.content or "")
    text = "".join(texts)
    if not texts:
        await begin()
    await send("response.output_text.done", **place, text=text, logprobs=[])
    await send("response.content_part.done", **place, part=_part(text))
    await send("response.output_item.done", output_index=0, item=_message(id, text))
    ended = "response.completed" if whole else "response.incomplete"
    await send(ended, response=_response(id, said, text, whole, usage, report))
    return await events.end(b"")


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(id: str, text: str | None) -> dict[str, Any]:
    status, content = ("in_progress", []) if text is None else ("completed", [_part(text)])
    return {"type": "message", "id": f"msg-{id}", "role": "assistant", "status": status, "content": content}


def _response(
    id: str, said: ResponsesRequest, text: str | None, whole: bool, usage: Usage | None, report: Report | None
) -> Mapping[str, Any]:
    """A response, under way where ``text`` is None."""
    status = "in_progress" if text is None else "completed" if whole else "incomplete"
    return {
        "id": id,
        "object": "response",
        "created_at": now(),
        "status": status,
        "model": said.model,
        "output": [] if text is None else [_message(id, text)],
        "error": None,
        "incomplete_details": None if whole else {"reason": "max_output_tokens"},
        "instructions": said.instructions,
        "metadata": said.metadata or {},
        "parallel_tool_calls": False,
        "temperature": said.temperature,
        "top_p": said.top_p,
        "tool_choice": "none",
        "tools": [],
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
