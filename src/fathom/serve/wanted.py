"""What a request wants beside plain text: tools, JSON of a given shape, log-probabilities, biases of tokens.

All of these are the engine's doing, so a model whose engine cannot is refused by name; and all speak of one whole
output, so they go with the strategies that sample whole outputs and not with those that write in steps or merge texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from fathom.answers import Schema
from fathom.errors import SpecError
from fathom.language.engines.base import EngineCapability
from fathom.records import Message, ToolCall, Tools
from fathom.search import Strategy
from fathom.search.best_of_n import BestOfN
from fathom.search.direct import Direct
from fathom.search.first import First
from fathom.search.vote import Vote
from fathom.serve.models import Served
from fathom.serve.refusal import Refused
from fathom.serve.wire import ChatMessage, ChatRequest, ResponseFormat

__all__ = ["check_able", "check_strategy", "messages_of", "sampling_wanted", "schema_of", "tools_of", "wanted"]

_OTHERS = "; openai: models do, and so do GGUF files whose chat template has them"
NEEDS: Mapping[str, tuple[EngineCapability, str]] = {
    "tools": (EngineCapability.TOOLS, "knows no tools" + _OTHERS),
    "messages": (EngineCapability.TOOLS, "knows no tools, so no turn may call one" + _OTHERS),
    "logprobs": (EngineCapability.LOGPROBS, "gives no log-probabilities; embedded, gguf: and most openai: models do"),
    "response_format": (
        EngineCapability.SCHEMA,
        "cannot hold its output to a schema; embedded, gguf: and openai: models can",
    ),
    "logit_bias": (EngineCapability.BIAS, "takes no logit_bias; embedded, gguf: and openai: models do"),
}
WHOLE: Mapping[str, tuple[type[Strategy], ...]] = {
    "tools": (Direct, Vote),
    "logprobs": (Direct, Vote, BestOfN, First),
    "response_format": (Direct, Vote, BestOfN, First),
}
_NAMES = {Direct: "direct", Vote: "vote", BestOfN: "best-of-n", First: "first"}
_JSON_OBJECT = {"type": "object"}


def wanted(request: ChatRequest) -> list[str]:
    """The parameters by which a request wants any of these. Raises Refused for those that contradict each other."""
    found: list[str] = []
    if request.tools:
        found.append("tools")
    elif request.tool_choice not in (None, "none", "auto") or request.parallel_tool_calls:
        name = "parallel_tool_calls" if request.parallel_tool_calls else "tool_choice"
        raise Refused(400, f"{name} goes with tools, and there are none", code="invalid_value", param=name)
    if any(turn.role == "tool" or turn.tool_calls or turn.tool_call_id for turn in request.messages):
        found.append("messages")
    if request.logprobs:
        found.append("logprobs")
    elif request.top_logprobs:
        raise Refused(400, "top_logprobs goes with logprobs: true", code="invalid_value", param="top_logprobs")
    if request.response_format is not None and request.response_format.type != "text":
        found.append("response_format")
    if request.logit_bias:
        found.append("logit_bias")
    return found


def check_able(names: Sequence[str], served: Served) -> None:
    """Raises Refused for what the model's engine cannot do; of several models, what any of theirs cannot."""
    each = [behind.model.engine.traits.capabilities for behind in served.behind]
    able = frozenset.intersection(*each) if each else frozenset()
    for name in names:
        capability, lack = NEEDS[name]
        if capability not in able:
            raise Refused(400, f"{served.id} {lack}", code="unsupported_by_model", param=name)


def check_strategy(names: Sequence[str], strategy: Strategy) -> None:
    """Raises Refused for what a search cannot say of its answer."""
    for name in names:
        kinds = WHOLE.get(name)
        if kinds is not None and not isinstance(strategy, kinds):
            allowed = ", ".join(_NAMES[kind] for kind in kinds)
            said = f"{name} goes with the strategies {allowed}, not with {strategy}"
            raise Refused(400, said, code="unsupported_parameter", param=name)


def tools_of(request: ChatRequest) -> Tools | None:
    """The tools that a request offers. Raises Refused for a choice among them that names none of them."""
    if not request.tools:
        return None
    offered = tuple({"type": "function", "function": msgspec.to_builtins(tool.function)} for tool in request.tools)
    choice = request.tool_choice
    if choice is None or isinstance(choice, str):
        return Tools(offered, choice, request.parallel_tool_calls)
    name = choice.function.name
    tools = Tools(offered, {"type": "function", "function": {"name": name}}, request.parallel_tool_calls)
    if name not in tools.names:
        said = f"tool_choice names {name!r}, which is not among the tools"
        raise Refused(400, said, code="invalid_value", param="tool_choice")
    return tools


def messages_of(turns: list[ChatMessage]) -> tuple[Message, ...]:
    """The chat. Raises Refused for a tool's result that answers no call."""
    return tuple(map(_plain, turns)) if not any(_calls(turn) for turn in turns) else tuple(_checked(turns))


def _plain(turn: ChatMessage) -> Message:
    return Message(turn.role, turn.text, turn.name or "")


def _calls(turn: ChatMessage) -> bool:
    return bool(turn.role == "tool" or turn.tool_calls or turn.tool_call_id)


def _checked(turns: list[ChatMessage]) -> list[Message]:
    called: set[str] = set()
    found: list[Message] = []
    for at, turn in enumerate(turns):
        here = f"messages[{at}]"
        if turn.tool_calls and turn.role != "assistant":
            raise Refused(400, f"{here}: only the assistant calls tools", code="invalid_value", param=here)
        if (turn.role == "tool") != bool(turn.tool_call_id):
            raise Refused(400, f"{here}: role tool and tool_call_id go together", code="invalid_value", param=here)
        if turn.tool_call_id and turn.tool_call_id not in called:
            said = f"{here}: no earlier turn has the tool call {turn.tool_call_id[:80]!r}"
            raise Refused(400, said, code="invalid_value", param=f"{here}.tool_call_id")
        calls = tuple(ToolCall(c.id, c.function.name, c.function.arguments) for c in turn.tool_calls or ())
        called.update(call.id for call in calls)
        found.append(Message(turn.role, turn.text, turn.name or "", calls, turn.tool_call_id or ""))
    return found


def schema_of(format: ResponseFormat | None) -> Schema | None:
    """What the answer must look like, None for text. Raises Refused for a schema that is none."""
    if format is None or format.type == "text":
        return None
    if format.type == "json_schema" and format.json_schema is None:
        raise Refused(400, "json_schema is missing", code="missing_parameter", param="response_format.json_schema")
    try:
        return Schema.of(_definition(format))
    except SpecError as error:
        raise Refused(400, str(error), code="invalid_value", param="response_format.json_schema.schema") from None


def _definition(format: ResponseFormat) -> Mapping[str, Any]:
    return _JSON_OBJECT if format.json_schema is None else format.json_schema.definition


def sampling_wanted(request: ChatRequest) -> dict[str, Any]:
    """What of these belongs to how tokens are drawn: fields of ``Sampling``.

    Servers are told the format in the client's own words; engines in this process follow its schema.
    """
    said: dict[str, Any] = {}
    if request.logprobs:
        said |= {"logprobs": True, "top_logprobs": request.top_logprobs or 0}
    if request.logit_bias:
        said["logit_bias"] = _biases(request.logit_bias)
    format = request.response_format
    if format is not None and format.type != "text":
        told: dict[str, Any] = {"type": format.type}
        if format.json_schema is not None:
            told["json_schema"] = {"name": format.json_schema.name, **msgspec.to_builtins(format.json_schema)}
        said |= {"schema": _definition(format), "extra": {"response_format": told}}
    return said


def _biases(biases: dict[str, float]) -> dict[int, float]:
    for token, bias in biases.items():
        if not (token.isascii() and token.isdigit() and len(token) < 10 and -100 <= bias <= 100):
            said = f"logit_bias: {token[:20]!r}: {bias:g} is not a token id with a bias from -100 to 100"
            raise Refused(400, said, code="invalid_value", param="logit_bias")
    return {int(token): bias for token, bias in biases.items()}
