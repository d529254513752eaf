"""How answers are dressed: markup around them, units behind them, commas between them. Nothing here knows values."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["CURRENCY", "DATE_OR_RANGE", "MIXED", "SCALES", "UNITS", "balanced", "bare", "split_items"]

CURRENCY = re.compile(r"^([+-]?)\s*(?:US|A|C|HK)?[$€£¥₹]\s*|\s*[$€£¥₹]$")
MIXED = re.compile(r"([+-]?)\s*(\d{1,18})\s*(?:\s(\d{1,18})/(\d{1,18})|\\[dt]?frac\{(\d+)\}\{(\d+)\})", re.ASCII)
DATE_OR_RANGE = re.compile(
    r"\d{1,4}(?:[/.]\d{1,2}){2}|\d{1,2}/\d{1,2}/\d{4}|\d+(?:[-–]\d+)+|\d+(?:\s?:\s?\d+)+", re.ASCII
)
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_LETTER = r"(?:(?<=[\s)}])[mgshLNJWVAKF])"
_WORD = rf"(?:(?!(?:or|and|to|of|pi|sqrt|sin|cos|tan|log|ln|exp|mod|per)\b)[A-Za-zµΩ]{{2,20}}|{_LETTER})"
_TOKEN = rf"{_WORD}(?:\^\{{?-?\d\}}?|[²³])?"
UNITS = re.compile(
    rf"(?<=[\d)}}%\s])\s*(?:(?:\^\{{?\\circ\}}?|°)\s*[CF]?|{_TOKEN}(?:(?:\s*[/·*]\s*|\s+per\s+|\s+of\s+|\s+|-)(?:{_TOKEN}|[a-z]\b)(?:\^\{{?-?\d\}}?)?){{0,4}})$"
)

_FONTS = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|operatorname|mbox|boxed|fbox|bf|rm)\s*\{"
)
_NOISE = re.compile(r"\\(?:displaystyle|left|right|bigl?|bigr|Bigl?|Bigr|quad|qquad)(?![a-zA-Z])|(?<!\\)\\[,;:! ]|~")
_DELIMITERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("__", "__"), ("`", "`"),
               ('"', '"'), ("'", "'"), ("“", "”"), ("*", "*"))  # fmt: skip
_VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅛": "1/8"}
_MAX_LAYERS = 100
_SUPERSCRIPT = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")


def balanced(text: str, start: int) -> int | None:
    """The index of the brace that closes the one at `start`, or None where none does. Escaped braces do not count."""
    depth = 0
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        if match.group() == "{":
            depth += 1
        elif match.group() == "}":
            depth -= 1
            if depth == 0:
                return match.start()
    return None


def bare(text: str) -> str:
    """An answer without its markup: dollars, bold, quotes, font commands, spacing commands, a final full stop.

    Peeled until nothing is left to peel, so ``bare(bare(a)) == bare(a)``.
    """
    for _ in range(_MAX_LAYERS):
        before, text = text, _peeled(text)
        if text == before:
            break
    return text


def _peeled(text: str) -> str:
    text = _unfont(_undelimited(text.strip()))
    for sign, plain in _VULGAR.items():
        text = re.sub(rf"(?<=\d)\s*{sign}", f" {plain}", text).replace(sign, plain)
    text = _NOISE.sub(lambda m: " " if m.group() in ("\\ ", "~", "\\quad", "\\qquad") else "", text)
    text = text.replace("{,}", ",").replace("\\%", "%").replace("\\$", "$").replace("−", "-").replace("⁄", "/")
    text = _SUPERSCRIPT.sub(lambda m: "^{" + m.group().translate(_SUPERSCRIPTS) + "}", text)
    return " ".join(unicodedata.normalize("NFC", text).split())


def _undelimited(text: str) -> str:
    """Peels full stops and commas off the end, and one pair of delimiters off both."""
    while text.endswith((".", ",", ";")) and len(text) > 1 and not text.endswith("\\,"):
        text = text[:-1].rstrip()
    for opening, closing in _DELIMITERS:
        inner = text[len(opening) : len(text) - len(closing)]
        if (
            len(text) > len(opening) + len(closing)
            and text.startswith(opening)
            and text.endswith(closing)
            and opening not in inner
            and closing not in inner
        ):
            return inner
    return text


def _unfont(text: str) -> str:
    """Font commands replaced by their contents, each brace found by one scan."""
    for _ in range(8):
        match = _FONTS.search(text)
        if match is None:
            return text
        end = balanced(text, match.end() - 1)
        if end is None:
            return text
        text = f"{text[: match.start()]} {text[match.end() : end]} {text[end + 1 :]}"
    return text


def split_items(text: str, *, words: bool = False) -> list[str] | None:
    """The items of a list, split at commas outside brackets (with `words`, also at "and" and "or").

    None where brackets do not match. A comma inside a number such as ``1,234`` splits like any other: what must not be
    split is to be recognised as a number first.
    """
    separator = r"|(?<=[\s,])(?:and|or)(?=\s)|\\(?:text\s*\{\s*)?(?:and|or)\s*\}" if words else ""
    items, depth, start = [], 0, 0
    for match in re.finditer(rf"\\[{{}}]|[(\[{{]|[)\]}}]|[,;]{separator}", text):
        token = match.group()
        if token in ("(", "[", "{", "\\{"):
            depth += 1
        elif token in (")", "]", "}", "\\}"):
            depth -= 1
            if depth < 0:
                return None
        elif depth == 0:
            items.append(text[start : match.start()].strip())
            start = match.end()
    if depth:
        return None
    items.append(text[start:].strip())
    return [item for item in items if item]
