"""What travels on ``/v1/responses``: a request in OpenAI's newer form, and what it is as a chat.

A chat's turn is here a list of items: what was said, each call of a tool, and each tool's output, on a line of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fathom.serve.refusal import Refused
from fathom.serve.wire import (
    ChatMessage,
    ChatRequest,
    Count,
    Effort,
    Extensible,
    FathomOptions,
    FunctionCall,
    FunctionDefinition,
    Name,
    NamedFunction,
    NamedTool,
    Part,
    ResponseFormat,
    Schema,
    Tool,
    ToolCall,
)

__all__ = ["InputItem", "ResponsesRequest", "renamed"]

ItemKind = Literal["message", "function_call", "function_call_output", "reasoning"]
Content = str | list[dict[str, Any]]

NEEDED: Mapping[ItemKind, tuple[str, ...]] = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
    "reasoning": (),
}
REASONING = ("summary", "content", "encrypted_content")  # what thoughts that are sent back may have

RENAMED: Mapping[str, str] = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
}
"""Parameters of a chat by their names here."""


class InputItem(Extensible):
    """One item. ``id`` and ``status`` are those of an earlier output that is sent back; thoughts among these are left
    out, as a chat's are."""

    type: ItemKind = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Content | None = None
    call_id: Name | None = None
    name: Name | None = None
    arguments: str | None = None
    output: Content | None = None
    summary: list[dict[str, Any]] | None = None
    encrypted_content: str | None = None
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


class FunctionTool(Extensible, omit_defaults=False):
    """A function that the model may ask to have called."""

    name: Name
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    type: Literal["function"] = "function"
    description: str | None = None

    @property
    def as_chat(self) -> Tool:
        """The tool as a chat has it, without what is not said."""
        return Tool(FunctionDefinition(self.name, self.description, self.parameters, self.strict))


class ChosenFunction(Extensible, omit_defaults=False):
    name: Name
    type: Literal["function"] = "function"


class ResponsesRequest(Extensible):
    """A request for a response, as far as it is about text and functions."""

    model: Name
    input: str | Annotated[list[InputItem], Meta(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    stream: bool | None = None
    reasoning: Reasoning | None = None
    text: Text | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenFunction | None = None
    parallel_tool_calls: bool | None = None
    fathom: FathomOptions | None = None
    # Accepted without effect, since they ask for nothing that the answer depends on.
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    store: Literal[False] | None = None
    truncation: Literal["disabled"] | None = None

    def as_chat(self) -> ChatRequest:
        """The chat that asks the same. Raises Refused for items that make none."""
        turns = [ChatMessage("system", self.instructions)] if self.instructions else []
        turns += [ChatMessage("user", self.input)] if isinstance(self.input, str) else _turns(self.input)
        choice = self.tool_choice
        return ChatRequest(
            self.model,
            turns,
            max_completion_tokens=self.max_output_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            response_format=self.text.format.as_chat if self.text and self.text.format else None,
            reasoning_effort=self.reasoning.effort if self.reasoning else None,
            tools=[tool.as_chat for tool in self.tools] if self.tools else None,
            tool_choice=NamedTool(NamedFunction(choice.name)) if isinstance(choice, ChosenFunction) else choice,
            parallel_tool_calls=self.parallel_tool_calls,
            fathom=self.fathom,
        )


def renamed(error: Refused) -> Refused:
    """A refusal of the chat that a request comes down to, in the request's own words."""
    for theirs, ours in RENAMED.items():
        if error.param is not None and error.param.startswith(theirs):
            error.param = ours + error.param.removeprefix(theirs)
            break
    return error


def _turns(items: Sequence[InputItem]) -> list[ChatMessage]:
    """The turns of a chat: what the assistant says and the calls that follow it are one."""
    turns: list[ChatMessage] = []
    called: set[str] = set()
    for at, item in enumerate(items):
        _check(item, at)
        call_id = item.call_id or ""
        if item.type == "message":
            assert item.role is not None
            turns.append(ChatMessage(item.role, _text_of(item.content, f"input[{at}].content")))
        elif item.type == "function_call":
            call = ToolCall(call_id, FunctionCall(item.name or "", item.arguments or ""))
            called.add(call_id)
            if turns and turns[-1].role == "assistant":
                turns[-1].tool_calls = [*(turns[-1].tool_calls or ()), call]
            else:
                turns.append(ChatMessage("assistant", tool_calls=[call]))
        elif item.type == "function_call_output":
            if call_id not in called:
                said = f"input[{at}]: no earlier item is the call {call_id[:80]!r}"
                raise Refused(400, said, code="invalid_value", param=f"input[{at}].call_id")
            turns.append(ChatMessage("tool", _text_of(item.output, f"input[{at}].output"), tool_call_id=call_id))
    return turns


def _check(item: InputItem, at: int) -> None:
    """Raises Refused for an item without what its type needs, or with what it has not."""
    needed = NEEDED[item.type]
    allowed = ("type", "id", "status", *needed, *(REASONING if item.type == "reasoning" else ()))
    for name in item.__struct_fields__:
        there = getattr(item, name) is not None
        if (there and name not in allowed) or (not there and name in needed):
            here = f"input[{at}].{name}"
            said, code = ("unknown", "unknown_parameter") if there else ("missing", "missing_parameter")
            raise Refused(400, f"{said} parameter: {here} (of a {item.type})", code=code, param=here)


def _text_of(content: Content | None, where: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    try:
        parts = [msgspec.convert({k: v for k, v in part.items() if k in ("type", "text")}, Part) for part in content]
    except msgspec.ValidationError as error:
        said = f"{where}: only text is understood ({error})"
        raise Refused(400, said, code="unsupported_content", param=where) from None
    return "".join(part.text for part in parts)
