"""``POST /v1/chat/completions``: plain or thought over, whole or streamed, in OpenAI's form."""

from __future__ import annotations

import logging
from contextlib import aclosing

from aiohttp import web

from fathom.budget import Meter
from fathom.errors import CapabilityError, FathomError
from fathom.language.choice import Choice
from fathom.language.engines.base import Piece
from fathom.language.prompts import visible
from fathom.records import Result, Trajectory, Update
from fathom.serve import saying, thinking
from fathom.serve.asking import Ask, ask_of, options_of
from fathom.serve.gateway import Gateway
from fathom.serve.models import choose
from fathom.serve.plain import Plain
from fathom.serve.refusal import refused
from fathom.serve.replies import ID, Events, json_reply, new_id, now
from fathom.serve.wire import (
    ChatChunk,
    ChatCompletion,
    ChatRequest,
    ChunkChoice,
    Delta,
    Logprobs,
    ReplyChoice,
    ReplyMessage,
    Report,
    ToolDelta,
    Usage,
)

__all__ = ["answer", "complete", "completed", "finish_of", "usage_of"]

LOG = logging.getLogger("fathom.serve")


async def complete(gateway: Gateway, request: web.BaseRequest) -> web.StreamResponse:
    """Answer a chat. Raises FathomError where the reply has not begun."""
    client = gateway.keys.client_of(request.headers)
    said = await gateway.read(request, ChatRequest)
    served = choose(gateway.models, said.model)
    ask = await ask_of(said, options_of(said.fathom, request.headers), served, gateway.config)
    if gateway.config.log_prompts:
        LOG.info("%s asks %s: %s", request[ID], served.id, said.messages[-1].text)
    meter = gateway.meter(request, ask)
    try:
        async with gateway.visit(request, client, ask, meter):
            if said.stream:
                usage = said.stream_options is not None and said.stream_options.include_usage
                return await _stream(gateway, request, ask, meter, usage)
            return json_reply(await answer(gateway, ask, meter))
    except FathomError as error:
        raise refused(error, served.masks) from error


async def answer(gateway: Gateway, ask: Ask, meter: Meter) -> ChatCompletion:
    """The whole completion."""
    return await (_think(gateway, ask, meter) if ask.strategy else _plain(gateway, ask, meter))


async def _plain(gateway: Gateway, ask: Ask, meter: Meter) -> ChatCompletion:
    plain = Plain(ask, meter, stream=False, most_seconds=gateway.config.limits.seconds)
    async with aclosing(plain.pieces()) as pieces:
        async for _ in pieces:
            pass
    choices = [_choice(ask, index, choice) for index, choice in enumerate(plain.choices)]
    return _completion(ask, choices, usage_of(plain), plain.report)


def _choice(ask: Ask, index: int, choice: Choice) -> ReplyChoice:
    text, thought = "".join(choice.text), "".join(choice.reasoning)
    calls = saying.calls(choice.tool_calls) if choice.calls else None
    logprobs = None
    if ask.top_logprobs is not None and choice.logprobs:
        tops = [list(zip(*top, strict=False)) for top in zip(choice.likeliest, choice.top_logprobs, strict=False)]
        logprobs = saying.logprobs(choice.spelled, choice.logprobs, tops, ask.top_logprobs)
    message = ReplyMessage("assistant", None if calls and not text else text, thought or None, calls)
    return ReplyChoice(index, message, finish_of(choice), logprobs)


async def _think(gateway: Gateway, ask: Ask, meter: Meter) -> ChatCompletion:
    run = await thinking.prepare(ask, meter)
    return completed(ask, await thinking.think(run, gateway))


def completed(ask: Ask, result: Result) -> ChatCompletion:
    """What a search came to, as a completion. Raises CapabilityError where log-probabilities did not come."""
    shown = thinking.ranked(result, ask.n)
    choices = [_reply(ask, index, trajectory) for index, trajectory in enumerate(shown)]
    return _completion(ask, choices, thinking.usage_of(result, shown), thinking.report_of(result, ask))


def _reply(ask: Ask, index: int, trajectory: Trajectory) -> ReplyChoice:
    """A trajectory as the reply's choice."""
    calls = saying.calls(trajectory.tool_calls)
    content = visible(trajectory.text) or (None if calls else trajectory.answer or "")
    logprobs = None
    if ask.top_logprobs is not None:
        if content and not trajectory.logprobs:
            raise CapabilityError(f"{ask.served.id} told no log-probabilities: its server has none")
        logprobs = saying.logprobs_of(trajectory, content or "", ask.top_logprobs)
    cut = not trajectory.finished and (ask.schema is not None or ask.form == "text")
    finish = "length" if cut else "tool_calls" if calls else "stop"
    return ReplyChoice(index, ReplyMessage("assistant", content, tool_calls=calls), finish, logprobs)


def _completion(ask: Ask, choices: list[ReplyChoice], usage: Usage, report: Report) -> ChatCompletion:
    return ChatCompletion(new_id("chatcmpl"), "chat.completion", now(), ask.served.id, choices, usage, report)


def finish_of(choice: Choice) -> str:
    """Why a choice of a plain completion ended, in OpenAI's words."""
    return saying.finish(choice.finish, choice.calls)


def usage_of(plain: Plain) -> Usage:
    """What a plain completion has spent."""
    spent = plain.meter.spent
    thought = sum(_thought(choice) for choice in plain.choices)
    return Usage.of(spent.prompt_tokens, spent.reused_tokens, spent.tokens, spent.tokens - thought)


def _thought(choice: Choice) -> int:
    """Tokens of the model's own reasoning, by its share of the characters: servers do not count them apart."""
    said, thought = sum(map(len, choice.text)), sum(map(len, choice.reasoning))
    return round(choice.tokens * thought / (said + thought)) if thought else 0


class _Chunks:
    """The events of one streamed completion."""

    def __init__(self, ask: Ask) -> None:
        self.id, self.created, self.model = new_id("chatcmpl"), now(), ask.served.id

    def __call__(
        self,
        delta: Delta | None = None,
        index: int = 0,
        finish: str | None = None,
        usage: Usage | None = None,
        report: Report | None = None,
        logprobs: Logprobs | None = None,
    ) -> ChatChunk:
        choices = [] if delta is None else [ChunkChoice(index, delta, finish, logprobs)]
        return ChatChunk(self.id, "chat.completion.chunk", self.created, self.model, choices, usage, report)


async def _stream(
    gateway: Gateway, request: web.BaseRequest, ask: Ask, meter: Meter, include_usage: bool
) -> web.StreamResponse:
    events, chunk = Events(request), _Chunks(ask)
    try:
        if ask.strategy is None:
            usage = await _stream_plain(gateway, ask, meter, events, chunk)
        else:
            usage = await _stream_thinking(gateway, ask, meter, events, chunk)
    except Exception as error:
        return await events.fail(error, ask.served.masks)
    finally:
        if events.began is not None:
            gateway.metrics.first.labels(ask.served.id).observe(events.began - meter.started)
    if include_usage:
        await events.send(chunk(usage=usage))
    return await events.end()


async def _stream_plain(gateway: Gateway, ask: Ask, meter: Meter, events: Events, chunk: _Chunks) -> Usage:
    plain = Plain(ask, meter, stream=True, most_seconds=gateway.config.limits.seconds)
    spoken: set[int] = set()
    async with aclosing(plain.pieces()) as pieces:
        async for piece in pieces:
            if piece.text or piece.reasoning or piece.calls or (ask.top_logprobs is not None and piece.logprobs):
                role = None if piece.index in spoken else "assistant"
                spoken.add(piece.index)
                told = None if ask.top_logprobs is None else saying.logprobs_of_piece(piece, ask.top_logprobs)
                await events.send(chunk(_delta(piece, role), piece.index, logprobs=told))
    for index, choice in enumerate(plain.choices):
        last = plain.report if index == ask.n - 1 else None
        finish = finish_of(choice)
        await events.send(chunk(Delta(), index, finish, report=last))
    return usage_of(plain)


def _delta(piece: Piece, role: str | None) -> Delta:
    calls = saying.call_deltas(piece.calls) if piece.calls else None
    return Delta(role, piece.text or None, piece.reasoning or None, calls)


async def _stream_thinking(gateway: Gateway, ask: Ask, meter: Meter, events: Events, chunk: _Chunks) -> Usage:
    """How the search stands goes out as reasoning, which ordinary clients show apart or not at all."""
    run = await thinking.prepare(ask, meter)
    result: Result | None = None
    async with aclosing(thinking.watch(run, gateway)) as updates:
        async for update in updates:
            if update.final is not None:
                result = update.final
                break
            role = None if (events.began is not None) else "assistant"
            delta = Delta(role, reasoning_content=thinking.in_words(update))
            await events.send(chunk(delta, report=_standing(update)))
    assert result is not None, "the last update has the result"
    whole = completed(ask, result)
    for choice in whole.choices:
        role = None if events.began is not None and choice.index == 0 else "assistant"
        calls = [
            ToolDelta(at, call.id, "function", {"name": call.function.name, "arguments": call.function.arguments})
            for at, call in enumerate(choice.message.tool_calls or ())
        ]
        delta = Delta(role, choice.message.content, tool_calls=calls or None)
        await events.send(chunk(delta, choice.index, logprobs=choice.logprobs))
    for choice in whole.choices:
        last = whole.fathom if choice is whole.choices[-1] else None
        await events.send(chunk(Delta(), choice.index, choice.finish_reason, report=last))
    return whole.usage


def _standing(update: Update) -> Report:
    return Report(
        answer=update.answer,
        confidence=round(update.confidence, 4),
        candidates=update.candidates,
        running=update.running,
    )
