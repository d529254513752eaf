"""Calls of tools as models of the Hermes and Qwen families write them, found in their text as it grows::

    <tool_call>
    {"name": "weather", "arguments": {"city": "Paris"}}
    </tool_call>

What is no such call, because it was cut, is no JSON, or names no function, stays text: nothing that a model wrote is
lost, and nothing is taken for a call that cannot be read as one.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import regex

from fathom.language.engines.base import CallPart
from fathom.records import Tools

__all__ = ["CLOSING", "OPENING", "CallReader", "call_grammar", "forbidden", "one_line", "required"]

OPENING, CLOSING = "<tool_call>", "</tool_call>"
_TAGS = (OPENING, "<think>", "<thinking>", "<reasoning>")
_THINKING = regex.compile("<(think|thinking|reasoning)>")
_BARE = regex.compile(r'(?P<before>\s*(?P<fence>```(json)?\s*)?)\{\s*"name"')


@dataclass
class _Begun:
    """Where calls are read: ``said`` are the words that began it, until a call was read; ``closing`` ends it."""

    said: str
    closing: str = CLOSING
    bare: bool = False
    called: bool = False


class CallReader:
    """Takes the text of one choice piece by piece, and gives what of it is text, and the calls that are whole.

    White space before calls and between them is no text. What a tag holds is read up to the end of its JSON object,
    whatever that object's strings spell. Small models leave the tags out, or write a code block instead: an output that
    begins so calls one of the functions in ``names``, or is text. What is only thought of, in ``<think>``, is text.
    """

    def __init__(self, names: frozenset[str] = frozenset()) -> None:
        self._names = names
        self._held = ""  # what is not decided yet
        self._begun: _Begun | None = None
        self._thinks_until = ""  # the tag that ends a section of reasoning, while there is one
        self._fresh = bool(names)  # nothing was said yet, but calls
        self._scanned, self._depth, self._quoted, self._escaped = 0, 0, False, False
        self._calls = 0

    def feed(self, text: str, *, last: bool = False) -> tuple[str, tuple[CallPart, ...]]:
        """More of the text; ``last`` tells that no more follows."""
        self._held += text
        shown: list[str] = []
        calls: list[CallPart] = []
        while self._outside(shown) if self._begun is None else self._inside(self._begun, shown, calls):
            pass
        if last:
            rest = (self._begun.said if self._begun else "") + self._held
            shown.append(rest if rest.strip() or not self._calls else "")
            self._held, self._begun = "", None
        return "".join(shown), tuple(calls)

    def _outside(self, shown: list[str]) -> bool:
        """Show what is text; True where a call may begin."""
        if self._fresh:
            found = _BARE.match(self._held, partial=True)
            if found is not None and found.partial:
                return False
            if found is not None:
                self._held = self._held[found.end("before") :]
                self._begun = _Begun(found["before"], "```" if found["fence"] else "", bare=True)
                return True
        if self._thinks_until:
            return self._think(shown)
        thinks = _THINKING.search(self._held.partition(OPENING)[0])
        if thinks:
            shown.append(self._held[: thinks.end()])
            self._held, self._thinks_until, self._fresh = self._held[thinks.end() :], f"</{thinks[1]}>", False
            return True
        before, tag, after = self._held.partition(OPENING)
        kept = 0 if tag else max(_overlap(before, each) for each in _TAGS)
        safe = len(before[: len(before) - kept].rstrip())
        if tag:
            self._begun, self._held = _Begun(before[safe:] + OPENING), after
        else:
            self._held = before[safe:]
        shown.append(before[:safe])
        self._fresh = self._fresh and not safe
        return bool(tag)

    def _think(self, shown: list[str]) -> bool:
        """Show what is thought."""
        before, tag, after = self._held.partition(self._thinks_until)
        kept = 0 if tag else _overlap(before, self._thinks_until)
        shown.append(before[: len(before) - kept] + tag)
        self._held = after if tag else before[len(before) - kept :]
        self._thinks_until = "" if tag else self._thinks_until
        return bool(tag)

    def _inside(self, begun: _Begun, shown: list[str], calls: list[CallPart]) -> bool:
        """Read an object, or come to the end of the tags; False where more text must come first."""
        if not self._scanned:
            said = self._held.lstrip()
            begun.said += "" if begun.called else self._held[: len(self._held) - len(said)]
            self._held = said
        if self._held.startswith("{"):
            return self._object(begun, shown, calls)
        if begun.closing.startswith(self._held) and self._held != begun.closing:
            return False
        if begun.called:
            self._held = self._held.removeprefix(begun.closing)
        self._end_of_calls(begun.said, shown)
        return True

    def _object(self, begun: _Begun, shown: list[str], calls: list[CallPart]) -> bool:
        end = self._end()
        if end is None:
            return False
        said, self._held = self._held[:end], self._held[end:]
        self._scanned = 0
        call = _call(said, self._calls, self._names if begun.bare else None)
        if call is None:
            self._end_of_calls(begun.said + said, shown)
        else:
            calls.append(call)
            self._calls += 1
            begun.said, begun.called = "", True
        return True

    def _end_of_calls(self, text: str, shown: list[str]) -> None:
        shown.append(text)
        self._fresh = self._fresh and not text
        self._begun = None

    def _end(self) -> int | None:
        """Where the object ends that the held text begins with, so far as it is there."""
        for at in range(self._scanned, len(self._held)):
            mark = self._held[at]
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped, self._quoted = mark == "\\", mark != '"'
            elif mark == '"':
                self._quoted = True
            else:
                self._depth += (mark == "{") - (mark == "}")
                if self._depth == 0:
                    return at + 1
        self._scanned = len(self._held)
        return None


def _overlap(text: str, tag: str) -> int:
    """Length of the longest end of the text with which the tag begins."""
    return next((n for n in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:n])), 0)


def _call(said: str, index: int, names: frozenset[str] | None) -> CallPart | None:
    """The call that a JSON object says; None where it says none, or is to say one of ``names`` and nothing more."""
    try:
        object = json.loads(said)
        if names is not None and (object.get("name") not in names or object.keys() != {"name", "arguments"}):
            return None
        name, arguments = object.get("name"), object.get("arguments", "")
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        if not isinstance(name, str) or not name or not (name + arguments).encode():
            return None
    except (ValueError, TypeError, RecursionError):  # no JSON, nested too deeply, half a surrogate pair
        return None
    return CallPart(index, f"call_{secrets.token_hex(12)}", name, arguments)


def forbidden(tools: Tools | None) -> bool:
    """Whether tools are told of that must not be called now."""
    return tools is not None and tools.choice == "none"


def required(tools: Tools | None) -> bool:
    """Whether the output must be a call."""
    return tools is not None and tools.choice not in (None, "auto", "none")


def one_line(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with llguidance's word for JSON on one line, unless it says something of that itself.

    Small models that may put any white space between two marks now and then write nothing else until their tokens are
    spent; so a text of a schema that bounds it is bounded, too.
    """
    spacing = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    return {"x-guidance": spacing, **schema}


def call_grammar(tools: Tools, schema: Mapping[str, Any] | None, opening: str, closing: str) -> str:
    """Output that is nothing but calls of these tools, as a grammar in the Lark syntax of llguidance.

    ``opening`` and ``closing`` are the tags as terms of that syntax. Where calls are not required, JSON of the
    ``schema`` is allowed as well.
    """
    named = isinstance(tools.choice, Mapping) and tools.choice["function"]["name"]
    functions = [tool["function"] for tool in tools.functions if named in (False, tool["function"]["name"])]
    several = "" if named or tools.parallel is False else ' ("\\n" call)*'
    words = "" if schema is None or required(tools) else f"\n     | %json {json.dumps(one_line(schema))}"
    forms = [_form(function["name"], function.get("parameters")) for function in functions]
    return (
        f"start: call{several}{words}\n"
        f'call: {opening} "\\n" object "\\n" {closing}\n'
        f"object: %json {json.dumps(one_line({'anyOf': forms}))}\n"
    )


def _form(name: str, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": parameters or {"type": "object"}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
