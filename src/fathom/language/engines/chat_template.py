"""A model's own chat template, run as transformers runs it: Jinja in a sandbox, with a few functions of its own.

Only chats with tools need it: how a model is told of functions, and how it writes that it wants one called, is known
by its template alone. Whether a template tells of tools, and writes calls in the form that ``tool_calls`` reads, is
found by trying.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from fathom.errors import EngineError, MissingDependency, UsageError
from fathom.language.engines.tool_calls import CallReader
from fathom.records import Message, ToolCall

__all__ = ["ChatTemplate", "template_for_tools", "turns"]

Turn = Mapping[str, Any]


class ChatTemplate:
    """A template and the control tokens that it may name. Raises EngineError for one that does not parse."""

    def __init__(self, text: str, **tokens: str) -> None:
        try:
            from jinja2 import TemplateError
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError as error:
            raise MissingDependency("jinja2", "local", "a chat with tools") from error
        self._tokens = tokens
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
        try:
            self._template = environment.from_string(text)
        except TemplateError as error:
            raise EngineError(f"the chat template does not parse: {error}") from error

    def render(self, turns: Sequence[Turn], tools: Sequence[Turn] = ()) -> str:
        """The chat as text, up to where the assistant begins. Raises UsageError for a chat that it refuses."""
        try:
            return self._template.render(
                messages=turns, tools=tools or None, add_generation_prompt=True, **self._tokens
            )
        except Exception as error:  # whatever a template of unknown origin raises
            roles = ", ".join(turn["role"] for turn in turns)
            raise UsageError(f"the model's chat template refuses turns of {roles}: {error}") from error

    @property
    def tells_of_tools(self) -> bool:
        """Whether it does, and writes calls as they are read here."""
        name, value = (f"f{secrets.token_hex(8)}" for _ in range(2))
        tool = {"type": "function", "function": {"name": name, "description": "", "parameters": {"type": "object"}}}
        asked = {"role": "user", "content": "?"}
        call = {"id": "0", "type": "function", "function": {"name": name, "arguments": {"a": value}}}
        try:
            told = self.render([asked], [tool])
            called = self.render([asked, {"role": "assistant", "content": "", "tool_calls": [call]}, asked], [tool])
        except UsageError:
            return False
        text, calls = CallReader().feed(called, last=True)
        said = [part.arguments for part in calls if part.name == name]
        return name in told and value not in text and json.dumps({"a": value}) in said


def template_for_tools(text: str, **tokens: str) -> ChatTemplate | None:
    """A template that tells of tools; None for one that does not, or cannot be run."""
    if "tools" not in text:
        return None
    try:
        found = ChatTemplate(text, **tokens)
    except EngineError:
        return None
    return found if found.tells_of_tools else None


def turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as templates want them: the arguments of calls as the objects that their JSON says."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    found: list[dict[str, Any]] = []
    for message in messages:
        turn: dict[str, Any] = {"role": "system" if message.role == "developer" else message.role}
        turn["content"] = message.content
        if message.tool_call_id:
            turn |= {"tool_call_id": message.tool_call_id, "name": names.get(message.tool_call_id, "")}
        if message.tool_calls:
            turn["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _object(call)}}
                for call in message.tool_calls
            ]
        found.append(turn)
    return found


def _object(call: ToolCall) -> Any:
    try:
        return json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):  # what a model wrote is told to it as it was
        return call.arguments


def _to_json(value: Any, indent: int | None = None, **how: Any) -> str:
    """As transformers has it: the text as it is, with nothing escaped for HTML."""
    return json.dumps(value, indent=indent, **{"ensure_ascii": False, **how})


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)


def _now(format: str) -> str:
    return datetime.now().strftime(format)
