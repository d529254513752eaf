"""Where a model's output states its final answer, and what it states.

Explicit marks come first: the last ``\\boxed{…}``, then the last of "final answer is …", "Answer: …" and ``#### …``.
Only an output without any is read for a lone answer in its last line. A reasoning section (`thought`) counts only where
nothing else is said. All scans are linear in the text, and only its last `_WINDOW` characters are searched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fathom.answers.blocks import FENCE, code_block
from fathom.answers.notation import balanced
from fathom.answers.thought import thought_of

__all__ = ["extract"]

_WINDOW = 50_000
_LONE_LENGTH = 80
_BOXED = re.compile(r"\\(?:f?boxed|fbox)\s{0,4}(\{|\S{1,40})")
_MARK = re.compile(r"####|(?<!\w)(?:[Aa]nswer|ANSWER|[Rr]esult|RESULT|[Ss]olution|SOLUTION)")
_STEMS = ("####", "nswer", "NSWER", "esult", "ESULT", "olution", "OLUTION")  # of every mark, but for its first letter
_STATES = re.compile(
    r"(?:[ \t]{1,4}to[ \t][^.\n:]{1,60}?)?(?:\*\*|__)?[ \t]{0,4}(?:\bis\b[ \t]{0,4}:?|:|=)(?:\*\*|__)?[ \t]{0,8}",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(
    r"[.!?](?=\s|$)|\s(?:because|since|as|which|where|so that)\s|,\s(?:because|since|as|which)\s"
)
_NUMBER = re.compile(
    r"[+-]?(?:[$€£]\s?)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.?\d+)(?:[eE][+-]?\d{1,4})?(?:/\d+)?\s?%?", re.ASCII
)
_BARE_NUMBER = re.compile(r"[:* \t]*([+-]?\d{1,15}(?:\.\d{1,15})?)\**\.?[ \t]*(?:\n|$)", re.ASCII)
_CLOSING_NUMBER = re.compile(
    r"(?:[=≈]|\b(?:is|are|was|equals|equal to|get|gives|has|have|costs?)\b:?)\s{0,4}"
    rf"\$?((?:{_NUMBER.pattern})(?:\s[a-zA-Z]{{1,15}}){{0,3}})\$?$",
    re.ASCII,
)
_DISPLAY = re.compile(r"(?:\$\$|\\\[)\s*(.{1,1500}?)\s*(?:\$\$|\\\])", re.DOTALL)
_MATHS = re.compile(r"\$([^$\n]{1,400})\$|\\\((.{1,400}?)\\\)")
_OPTION = re.compile(r"\(([A-Ja-j])\)|\b([A-J])\b(?![’'])|\boption\s{1,3}([a-jA-J])\b")
_YES_NO = re.compile(r"\b(yes|no|true|false)\b", re.IGNORECASE)
_NUMERIC = ("number", "fraction", "percent")


def extract(text: str, kind: str | None = None) -> str | None:
    """The final answer that a model's output states, as it was written; None where it states none.

    `kind` (an `answers.AnswerKind`) says what the question calls for and lets the last line be read more freely: its
    last number, its option, its yes or no. For ``"code"`` it is the last fenced block of code.
    """
    found = thought_of(text)
    spoken, thought = found.spoken, found.thought
    if kind == "code":
        return code_block(spoken) or (code_block(thought) if not spoken.strip() else None)
    spoken = spoken[-_WINDOW:]
    return _stated(spoken, kind) or _lone(spoken, kind) or _stated(thought[-_WINDOW:], kind)


def _stated(text: str, kind: str | None) -> str | None:
    boxed = _last_boxed(text)
    if boxed is not None:
        return boxed
    for mark in _marks(text):
        states = mark if mark.group() == "####" else _STATES.match(text, mark.end())
        if states and (answer := _payload(text[states.end() : states.end() + 2000], kind)):
            return answer
    return None


def _marks(text: str) -> Iterator[re.Match[str]]:
    """Where an answer may be announced, from last to first. Plain searches are many times faster than the pattern."""
    at = {stem: place for stem in _STEMS if (place := text.rfind(stem)) >= 0}
    while at:
        last = max(at, key=at.__getitem__)
        position = at.pop(last)
        if (before := text.rfind(last, 0, position)) >= 0:
            at[last] = before
        if mark := _MARK.match(text, position if last == "####" else max(0, position - 1)):
            yield mark


def _last_boxed(text: str) -> str | None:
    """The contents of the last box that is closed; of the last few only, so that many open ones stay cheap."""
    if "box" not in text:  # faster than the pattern, which is asked of every sample
        return None
    for match in reversed(list(_BOXED.finditer(text))[-8:]):
        if match.group(1) != "{":
            content = match.group(1).rstrip(".$)\\")
        else:
            end = balanced(text, match.end() - 1)
            content = "" if end is None else text[match.end() : end].strip()
        if content.strip():
            return content.strip()
    return None


def _payload(text: str, kind: str | None) -> str | None:
    """The answer at the head of what follows a mark: the rest of its line, or the next line where that is empty."""
    if (
        kind is None and (bare := _BARE_NUMBER.match(text)) is not None
    ):  # as most answers are; the rest comes to the same
        return bare.group(1)
    line = next((line for line in text.lstrip(":* \t").split("\n")[:3] if line.strip(" \t*:_$")), "").strip()
    display = _DISPLAY.match(text.lstrip(":* \t\n"))
    if display is not None:
        return display.group(1)
    maths = _MATHS.match(line)
    if maths is not None and (kind is None or kind in ("expression", "set")):
        return (maths.group(1) or maths.group(2)).strip()
    if kind is not None and (narrow := _of_kind(line, kind, first=True)):
        return narrow
    end = _SENTENCE_END.search(line)
    while end is not None and end.group()[0] == "." and line[: end.start()].strip(" (*")[-1:].isalpha():
        if len(line[: end.start()].strip(" (*")) > 1:  # "B. Paris" goes on after its full stop
            break
        end = _SENTENCE_END.search(line, end.end())
    answer = (line[: end.start()] if end else line).strip().strip("*_").strip()
    return answer or None


def _lone(text: str, kind: str | None) -> str | None:
    """An answer that stands alone in the last line; with a `kind`, the last thing of that kind in it."""
    lines = [line.strip() for line in text.strip().split("\n")]
    lines = [line for line in lines if line and not FENCE.match(line)]
    if not lines:
        return None
    last = lines[-1]
    if kind is not None and kind not in ("text", "expression", "set"):
        if narrow := _of_kind(last, kind, first=kind == "boolean"):
            return narrow
        return _of_kind(lines[0], kind, first=True) if kind == "boolean" else None
    plain = last.strip("*_ \t")
    if _NUMBER.fullmatch(plain.rstrip(".")) or re.fullmatch(r"\(?[A-Ja-j]\)\.?|[A-J]\.?", plain):
        return plain.rstrip(".")
    if (maths := _MATHS.fullmatch(plain.rstrip("."))) is not None:
        return (maths.group(1) or maths.group(2)).strip()
    if _YES_NO.fullmatch(plain.rstrip(".!")):
        return plain.rstrip(".!")
    if (closing := _CLOSING_NUMBER.search(plain.rstrip("."))) is not None:
        return closing.group(1)
    if len(lines) == 1 and len(plain) <= _LONE_LENGTH and not re.search(r"[.!?:]\s+\S", plain):
        return plain.rstrip(".")
    return None


def _of_kind(line: str, kind: str, *, first: bool) -> str | None:
    """The first or last number, option or yes/no in a line."""
    if kind in _NUMERIC:
        pattern = _NUMBER
        if "\\" in line and "frac" in line:
            return None
    elif kind == "choice":
        pattern = _OPTION
    elif kind == "boolean":
        pattern = _YES_NO
    else:
        return None
    matches = list(pattern.finditer(line[-2000:] if not first else line[:2000]))
    if not matches:
        return None
    match = matches[0 if first else -1]
    return next((group for group in match.groups() if group), match.group()).strip()
