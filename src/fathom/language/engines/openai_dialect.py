"""What a server was found to understand of the chat completions protocol, and how a request is worded for it.

"OpenAI-compatible" leaves much open. What a server refuses or ignores is learned from its first reply and kept, so that
it costs one extra round trip per upstream and not one per request. Only what leaves the meaning of a request alone is
given up that way; a refused temperature, stop string or schema stays an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from fathom.errors import UsageError
from fathom.language.engines.base import Request
from fathom.language.engines.openai_wire import Refusal
from fathom.records import Message

__all__ = ["Dialect", "Prefix", "context_left", "encode"]

Prefix = Literal["continue", "native", "none"]

OURS = frozenset({"messages", "model", "n", "stream", "stream_options", "seed"})  # not to be set by ``extra``
REFUSING = re.compile(
    r"not (?:\w+ ){0,2}(?:support|permit|allow|accept|recogni|compatib|implement)|unsupported|un(?:known|recogni[sz]ed)"
    r"|unexpected|extra (?:inputs|fields)|deprecated|instead|invalid (?:field|param|argument)|unavailable|disabled",
    re.IGNORECASE,
)
MANY_REFUSED = re.compile(
    r"['\"`]n['\"`]|\bn(?:_cmpl)?\s*(?:[<>=!]|must\b|should\b|cannot\b|is\b)|\bn_cmpl\b|best_of", re.IGNORECASE
)
CONTEXT = re.compile(r"maximum context length (?:is|of) (\d+)", re.IGNORECASE)
PROMPT = re.compile(
    r"(\d+)(?: tokens)? (?:input tokens|in the messages|in your prompt|in the prompt|from the input)", re.IGNORECASE
)
AT_MOST = re.compile(
    r"(?:<=|at most|up to|less than or equal to|maximum(?: value)?(?: is| of)?:?)\s*(\d+)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to talk to one upstream.

    ``many`` is the most choices that one request may ask for (None: no bound is known), ``proven`` that a reply with
    several was seen, ``short`` how many there were in the last reply with too few. ``one_choice_usage`` marks
    llama.cpp, whose count of a whole reply with n > 1 covers its first choice only.
    """

    many: int | None = None
    proven: bool = False
    short: int = 0
    seed: bool = True
    logprobs: bool = True
    stream_usage: bool = True
    limit: str = "max_tokens"
    one_choice_usage: bool = False
    prefix: Prefix | None = None  # None: not known

    def after_short(self, choices: int) -> Dialect:
        """After a reply with too few ``choices``: one alone, or the same few again, is all that the server gives."""
        if (choices == 1 and not self.proven) or choices == self.short:
            return replace(self, many=choices)
        return replace(self, short=choices)

    def after(self, refused: Refusal, request: Request, asked: int, streamed: bool) -> Dialect | None:
        """What to try after a 400 on a request for ``asked`` choices; None where the wording is not what is refused."""

        def names(*fields: str) -> bool:
            spoken = any(re.search(rf"\b{field}\b", refused.message) for field in fields)
            return any(field in refused.fields for field in fields) or (
                spoken and bool(REFUSING.search(refused.message))
            )

        if streamed and self.stream_usage and names("stream_options", "include_usage"):
            return replace(self, stream_usage=False)
        if self.seed and request.seed is not None and names("seed"):
            return replace(self, seed=False)
        if self.logprobs and request.sampling.logprobs and names("logprobs", "top_logprobs"):
            return replace(self, logprobs=False)
        if self.limit == "max_tokens" and names("max_tokens") and "max_completion_tokens" in refused.message:
            return replace(self, limit="max_completion_tokens")
        if asked > 1 and ("n" in refused.fields or MANY_REFUSED.search(refused.message)):
            bounds = [bound for text in AT_MOST.findall(refused.message) if 1 <= (bound := int(text)) < asked]
            return replace(self, many=max(bounds, default=1))
        return None


def context_left(refused: str, asked: int) -> int:
    """How many tokens the context has left where a server refuses ``asked`` as too many and says what it counted, as
    vLLM, SGLang and OpenAI do; else 0."""
    context, prompt = CONTEXT.search(refused), PROMPT.search(refused)
    left = int(context[1]) - int(prompt[1]) if context and prompt else 0
    return left if 0 < left < asked else 0


def encode(model: str, request: Request, dialect: Dialect, *, stream: bool) -> bytes:
    """The request's JSON body without its closing brace: n and seed follow, and are all that differs between parts.

    Raises UsageError where ``sampling.extra`` sets a field that is not its to set or cannot be put into JSON.
    """
    sampling = request.sampling
    if taken := sorted(OURS & sampling.extra.keys()):
        raise UsageError(f"extra may not set {', '.join(taken)}: the engine itself does")
    messages = [_worded(message) for message in request.prompt.messages]
    body: dict[str, Any] = {"model": model, "messages": messages, dialect.limit: request.max_tokens}
    for name in ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty"):
        if (value := getattr(sampling, name)) is not None:
            body[name] = value
    if sampling.stop:
        body["stop"] = sampling.stop
    if sampling.logprobs and dialect.logprobs:
        body["logprobs"] = True
        if sampling.top_logprobs:
            body["top_logprobs"] = sampling.top_logprobs
    if sampling.logit_bias:
        body["logit_bias"] = sampling.logit_bias
    if (tools := request.prompt.tools) is not None:
        body["tools"] = tools.functions
        if tools.choice is not None:
            body["tool_choice"] = tools.choice
        if tools.parallel is not None:
            body["parallel_tool_calls"] = tools.parallel
    if sampling.schema is not None:
        schema = {"name": "answer", "strict": True, "schema": sampling.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if request.prompt.prefix:
        messages.append({"role": "assistant", "content": request.prompt.prefix_text})
        if dialect.prefix == "continue":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
    body |= sampling.extra
    if stream:
        body["stream"] = True
        if dialect.stream_usage:
            body["stream_options"] = {"include_usage": True}
    try:
        return msgspec.json.encode(body)[:-1]
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"extra or schema cannot be put into JSON: {error}") from None


def _worded(message: Message) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name:
        said["name"] = message.name
    if message.tool_call_id:
        said["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        said["content"] = message.content or None
        said["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return said
