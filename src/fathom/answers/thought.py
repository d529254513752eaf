"""Reasoning sections in a model's output: ``<think> … </think>`` and its like.

A section begins where a line begins, or with the output, where the chat template opened it; it ends at the first mark
that closes it. A tag in the midst of a sentence is a word like any other: who explains how a model thinks has not begun
to think.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Thought", "thought_of"]

_CLOSING = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
}
_OPENED = re.compile(r"^[ \t]*(" + "|".join(map(re.escape, _CLOSING)) + ")", re.MULTILINE)
_BY_TEMPLATE = ("</think>", "◁/think▷", "<|end_of_thought|>")
_CLOSED = re.compile(r"^[ \t]*({0})|({0})[ \t]*$".format("|".join(map(re.escape, _BY_TEMPLATE))), re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Thought:
    """An output taken apart: what is ``spoken``, what is ``thought``, and the mark that would close a section that is
    still open at the end (else empty). ``ended`` is where the last section's closing mark begins, -1 without one."""

    spoken: str
    thought: str = ""
    closing: str = ""
    ended: int = -1


def thought_of(text: str) -> Thought:
    """Take an output apart. Linear in the text."""
    if "<" not in text and "◁" not in text:
        return Thought(text)
    spoken: list[str] = []
    thought: list[str] = []
    at, ended, closing = 0, -1, ""
    opened, closed = _OPENED.search(text), _CLOSED.search(text)
    if closed is not None and (opened is None or closed.start() < opened.start()):
        ended = closed.start(closed.lastindex or 0)
        thought.append(text[:ended])
        at = closed.end(closed.lastindex or 0)
        opened = _OPENED.search(text, at)
    while opened is not None:
        spoken.append(text[at : opened.start()])
        mark = _CLOSING[opened[1]]
        end = text.find(mark, opened.end())
        if end < 0:
            thought.append(text[opened.end() :])
            at, closing = len(text), mark
            break
        thought.append(text[opened.end() : end])
        ended, at = end, end + len(mark)
        opened = _OPENED.search(text, at)
    spoken.append(text[at:])
    return Thought("".join(spoken), "\n".join(thought), closing, ended)
