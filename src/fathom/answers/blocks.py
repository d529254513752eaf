"""Blocks of code in a model's output: the last one, the one that the output's end has cut, and what is whole of it."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass

__all__ = ["FENCE", "Blocks", "blocks_of", "code_block", "whole_statements"]

FENCE = re.compile(r"^[ \t]{0,8}(?:```|~~~)[ \t]{0,8}([\w+-]{0,20})[^\n]{0,100}$", re.MULTILINE)
_LONGEST = 20_000
"""Characters of code that are parsed while an answer waits."""
_CUTS = 8
"""Places at which it is tried to end code that was cut."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """The fenced blocks of an output, as (language, code): those that are closed, and the one that its end cut, whose
    text from its fence on is ``open`` (empty where there is none)."""

    closed: tuple[tuple[str, str], ...]
    cut: tuple[str, str] | None = None
    open: str = ""


def blocks_of(text: str) -> Blocks:
    """The blocks of a text. Linear in it."""
    closed: list[tuple[str, str]] = []
    opened: re.Match[str] | None = None
    for fence in FENCE.finditer(text):
        if opened is None:
            opened = fence
        else:
            closed.append((opened.group(1).lower(), text[opened.end() + 1 : fence.start()]))
            opened = None
    if opened is None:
        return Blocks(tuple(closed))
    return Blocks(tuple(closed), (opened.group(1).lower(), text[opened.end() + 1 :]), text[opened.start() :])


def code_block(text: str) -> str | None:
    """The contents of the last fenced code block, preferring Python; one that the output's end cut off counts."""
    found = blocks_of(text)
    blocks = [block for block in (*found.closed, *([found.cut] if found.cut else ())) if block[1].strip()]
    preferred = [code for language, code in blocks if language.startswith("py")] or [code for _, code in blocks]
    return preferred[-1] if preferred else None


def whole_statements(code: str) -> str:
    """Python without the statement in which its end was cut off.

    As it is where more than half of the lines would have to go, for then it was cut elsewhere than at its end.
    """
    lines = code.split("\n")
    keep = len(lines)
    for _ in range(_CUTS if len(code) <= _LONGEST else 0):
        whole = "\n".join(lines[:keep])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes in its strings
                ast.parse(whole)
        except SyntaxError as error:
            keep = min(keep, error.lineno or keep) - 1
        except (ValueError, MemoryError, RecursionError):
            break
        else:
            return whole
        if 2 * keep < len(lines):
            break
    return code
