"""Answers are compared by meaning, not by string: every answer has a canonical key, and equal keys are the same answer.

Since sameness is equality of keys it is an equivalence relation, so votes can be counted by it. Plain numbers and exact
arithmetic take microseconds; only what needs algebra goes to math-verify's parser (see `expressions`), within a time
limit; nothing is ever evaluated as code.

The rules, in the order in which they are tried:

- *choice*: ``(B)``, ``B.``, ``option b``, ``B) Paris`` and a lone capital A to J.
- *boolean*: yes and true are the same answer, no and false are.
- *number*: exact value, so ``1,234.50`` = ``$1234.5``, ``1/2`` = ``0.5`` = ``\\frac12``, ``3 1/2`` = ``3.5``. Trailing
  units are dropped (``5 apples`` = ``5 cm`` = ``5``): the question fixes it. ``x = 5`` is ``5``, and so is
  ``2 + 3 = 5``: what is worked out comes last, be it right or wrong.
- *percent*: a percentage is its value: ``50%`` = ``0.5``. A bare ``50`` is *not* ``50%``: a vote must not guess
  which of two readings was meant, and matching both would make 0.5 and 50 the same answer.
- *set*: ``{1, 2}`` = ``2, 1`` = ``x = 1 or x = 2``. Tuples and lists, ``(1, 2)`` and ``[1, 2]``, keep order and
  bracket; an interval is written like them, and ``3 <= x < 5`` is ``[3, 5)``.
- *expression*: equal as a function of its symbols, taken as positive numbers.
- *text*: case, punctuation, articles and white space are folded.

`parsed` is False for what is empty, far too long, a refusal, or mathematics that nothing here could read, and for what
is not of the kind that the caller asked for; `votes.Tally` ranks such answers below all others.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from fathom.answers.expressions import expression_key, looks_mathematical
from fathom.answers.notation import CURRENCY, DATE_OR_RANGE, MIXED, SCALES, UNITS, bare, split_items
from fathom.answers.rational import NotRational, evaluate, parse_number

__all__ = ["AnswerKind", "Canonical", "at_once", "canonical", "needs_algebra", "same"]

AnswerKind = Literal["number", "fraction", "percent", "expression", "choice", "boolean", "set", "text", "code"]

_MAX_BRACKETS = 60  # nested, each takes frames of the stack of whoever asks
_MAX_LENGTH = 2000
_CACHED_LENGTH = 200
_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,17})", re.ASCII)
_CHOICE = re.compile(
    r"(?i:(?:the\s+)?(?:correct\s+)?(?:option|choice|answer)\s*(?:is\b|:)?\s*)?"
    r"(?:\(\s*([a-jA-J])\s*\)|\[([A-J])\]|([a-jA-J])[.):](?=\s|$)|([A-J])$|(?<=\s)([a-j])$)(\s*\S.*)?$"
)
_PERCENT = re.compile(r"\s*\b(?:percent|per cent|pct)$")
_BOOLEANS = {"yes": True, "true": True, "no": False, "false": False}
_REFUSALS = re.compile(
    r"(?:i )?(?:do not|don ?t|can ?not|can ?t|could not|unable to) (?:know|determine|answer|be determined|say)\b.{0,60}"
    r"|unknown|undetermined|n a|not sure|none given|no answer"
)
_ASSIGNED = re.compile(r"\\?[A-Za-z][A-Za-z_0-9]{0,15}(?:\([a-z]\))?\s*(?:=(?!=)|\\in(?![a-zA-Z]))\s*")
_RELATION = re.compile(r"(<=|>=|<|>|≤|≥|\\leq?(?![a-z])|\\geq?(?![a-z])|\\lt(?![a-z])|\\gt(?![a-z]))")
_SIGNS = {"≤": "<=", "\\le": "<=", "\\leq": "<=", "\\lt": "<", "≥": ">=", "\\ge": ">=", "\\geq": ">=", "\\gt": ">"}
_SIGNS |= {sign: sign for sign in ("<", ">", "<=", ">=")}
_PLUS_MINUS = re.compile(r"\\pm(?![a-zA-Z])|±")
_VARIABLE = re.compile(r"\\?[A-Za-z]\w{0,5}")
_INFINITY = re.compile(r"([+-]?)\s*(?:∞|\\infty|infinity|inf|oo)", re.IGNORECASE)
_RATIO = re.compile(r"-?\d+(?:/\d+)?")
_NAMED_SETS = dict.fromkeys(
    ("{}", "\\{\\}", "\\emptyset", "∅", "\\varnothing", "no solution", "no solutions", "empty set"), "s:"
)
_NAMED_SETS |= dict.fromkeys(("\\mathbb{r}", "ℝ", "all real numbers", "all reals"), "s(n:-oo;n:oo)")
_NUMERIC = frozenset({"number", "fraction", "percent"})


@dataclass(frozen=True, slots=True)
class Canonical:
    """What an answer is: the same as another where their `key` is; `kind` is how it was written, `text` shows it."""

    key: str
    kind: AnswerKind
    text: str
    parsed: bool = True


def same(a: str, b: str) -> bool:
    """Whether two answers mean the same."""
    return canonical(a).key == canonical(b).key


def canonical(answer: str, kind: AnswerKind | None = None) -> Canonical:
    """The canonical form of an answer, by the rules of this module. Never raises, and is bounded in time.

    With `kind`, the kind of answer that the question calls for, one of another kind comes back as not parsed; the kinds
    number, fraction and percent stand for each other. ``canonical(canonical(a).text)`` has the key of ``canonical(a)``.
    """
    if _INTEGER.fullmatch(answer):
        found = Canonical("n:0", "number", "0") if answer == "-0" else Canonical(f"n:{answer}", "number", answer)
    elif len(answer) <= _CACHED_LENGTH:
        found = _cached(answer)
    else:
        found = _canonical(answer)
    if kind is None or kind in ("text", "code") or found.kind == kind or not found.parsed:
        return found
    if found.key.startswith("n:") and (kind in _NUMERIC or kind == "expression"):
        return found
    return Canonical(found.key, found.kind, found.text, parsed=False)


def at_once(answer: str) -> Canonical:
    """The canonical form as far as it needs no algebra: of an expression it is that of a text. Takes microseconds."""
    if len(answer) > _MAX_LENGTH:
        return _canonical(answer)
    text = bare(answer.strip())
    found = _choice(text) or _boolean(text)
    if found is None and not DATE_OR_RANGE.fullmatch(text):
        value = _assigned(text)
        found = _number(value) or _worked_out(value)
    return found or _text(text)


def needs_algebra(answer: str) -> bool:
    """Whether `canonical` may take longer over it than an event loop can wait."""
    return looks_mathematical(answer) and not at_once(answer).key.startswith("n:")


@lru_cache(maxsize=8192)
def _cached(answer: str) -> Canonical:
    return _canonical(answer)


def _canonical(answer: str) -> Canonical:
    if len(answer) > _MAX_LENGTH:
        digest = hashlib.sha256(answer.encode("utf-8", "replace")).hexdigest()
        return Canonical(f"t:{digest}", "text", answer, parsed=False)
    text = answer.strip()
    if number := _decimal(text):
        return number
    text = bare(text)
    found = _choice(text) or _boolean(text) or (None if DATE_OR_RANGE.fullmatch(text) else _mathematics(text))
    return found or _text(text)


def _choice(text: str) -> Canonical | None:
    match = _CHOICE.match(text)
    if match is None or not (letter := next((group for group in match.groups()[:5] if group), None)):
        return None
    rest = match.group(6)
    if rest and looks_mathematical(text) and not match.group(3) and not match.group(1):
        return None
    return Canonical(f"c:{letter.upper()}", "choice", letter.upper())


def _boolean(text: str) -> Canonical | None:
    value = _BOOLEANS.get(text.lower().rstrip(".!"))
    return None if value is None else Canonical(f"b:{int(value)}", "boolean", text.lower().rstrip(".!"))


def _mathematics(text: str) -> Canonical | None:
    """Numbers, then collections and relations of what this function understands, then expressions."""
    if len(text) > 600 or not text or sum(map(text.count, "([{")) > _MAX_BRACKETS:
        return None
    value = _assigned(text)
    found = _number(text) or _worked_out(value) or _plus_minus(text) or _collection(text) or _interval(text)
    if found is not None:
        return found
    if value != text and not re.search(r"[=<>]", value):
        return _mathematics(value)
    if (infinite := _INFINITY.fullmatch(text)) is not None:
        return Canonical("n:-oo" if infinite.group(1) == "-" else "n:oo", "expression", text)
    key = expression_key(text)
    if key is None:
        return None
    return Canonical(f"n:{key}" if _RATIO.fullmatch(key) else f"e:{key}", "expression", text)


def _number(text: str) -> Canonical | None:
    if not any(character.isdigit() for character in text):
        return None
    if number := _decimal(text):
        return number
    amount = _PERCENT.sub("%", text)
    scale = Fraction(1)
    if unit := UNITS.search(amount):
        amount = amount[: unit.start()].rstrip()
        first, _, _ = unit.group().strip().partition(" ")
        scale = Fraction(SCALES.get(first.lower(), 1))
    amount = CURRENCY.sub(r"\1", amount)
    if re.fullmatch(r"[+-]?\d{1,3}(?:[ \u202f]\d{3})+(?:\.\d+)?", amount):
        amount = amount.replace(" ", "").replace("\u202f", "")
    try:
        if mixed := MIXED.fullmatch(amount):
            sign, whole, above, below = (group for group in mixed.groups() if group is not None)
            value = int(whole) + Fraction(int(above), int(below))
            value = -value if sign == "-" else value
        else:
            whole = amount.removesuffix("%")  # 1/4% is a quarter of a percent
            value = evaluate(amount) if "%" in whole else evaluate(whole) / (100 if whole != amount else 1)
    except (NotRational, ZeroDivisionError):
        return None
    kind: AnswerKind = "percent" if "%" in amount else "fraction" if re.search(r"/|frac", amount) else "number"
    return Canonical(f"n:{value * scale}", kind, text if unit or kind == "percent" else _shown(value, text))


def _assigned(text: str) -> str:
    """What is said to be the value, where the text is ``x = 5``; else all of it."""
    match = _ASSIGNED.match(text)
    return text[match.end() :].strip() if match else text


def _worked_out(text: str) -> Canonical | None:
    """The last of several numbers that are said to be equal."""
    sides = [_number(side.strip()) for side in text.split("=")] if "=" in text else []
    return sides[-1] if sides and all(sides) else None


def _decimal(text: str) -> Canonical | None:
    try:
        value = parse_number(text)
    except NotRational:
        return None
    return Canonical(f"n:{value}", "number", _shown(value, text))


def _shown(value: Fraction, written: str) -> str:
    """A whole number as such; others as written, which says more than a normal form would."""
    return str(value) if value.denominator == 1 and abs(value) < 10**18 else written


def _collection(text: str) -> Canonical | None:
    """Sets, tuples, lists, and answers that list several values."""
    if text.lower() in _NAMED_SETS:
        return Canonical(_NAMED_SETS[text.lower()], "set", text)
    opening, closing = text[0], text[-1]
    if (opening in "([" and closing in ")]") or (text.startswith(("\\{", "{")) and text.endswith("}")):
        inner = text[1:-1] if opening != "\\" else text[2:-2]
        items = split_items(inner)
        if items is None or (len(items) < 2 and opening in "(["):
            return None
        brackets = opening + closing if opening in "([" else "{}"
    else:
        items, brackets = split_items(text, words=True), "{}"
        if items is None or len(items) < 2:
            return None
    parts = [_mathematics(item) if len(items) <= 64 else None for item in items]
    if any(part is None for part in parts):
        return None
    keys = [part.key for part in parts if part is not None]
    if brackets == "{}":
        return Canonical("s:" + ";".join(sorted(set(keys))), "set", text)
    return Canonical(f"s{brackets[0]}" + ";".join(keys) + brackets[1], "set", text)


def _plus_minus(text: str) -> Canonical | None:
    """``a \\pm b`` is the set of both."""
    if len(_PLUS_MINUS.findall(text)) != 1:
        return None
    plus, minus = (_mathematics(_PLUS_MINUS.sub(sign, text).strip()) for sign in "+-")
    if plus is None or minus is None:
        return None
    return Canonical("s:" + ";".join(sorted({plus.key, minus.key})), "set", text)


def _interval(text: str) -> Canonical | None:
    """``x > 3`` is (3, oo), and ``3 <= x < 5`` is [3, 5)."""
    parts = [part.strip() for part in _RELATION.split(text)]
    signs = [_SIGNS[sign] for sign in parts[1::2]]
    sides = parts[::2]
    if not signs or len({sign[0] for sign in signs}) > 1:
        return None
    if signs[0][0] == ">":
        sides, signs = sides[::-1], [sign.replace(">", "<") for sign in signs[::-1]]
    if len(sides) == 2:  # x < a, or a < x
        if _VARIABLE.fullmatch(sides[0]):
            sides, signs = ["-oo", *sides], ["<", *signs]
        else:
            sides, signs = [*sides, "oo"], [*signs, "<"]
    if len(sides) != 3 or not _VARIABLE.fullmatch(sides[1]):
        return None
    low, high = _mathematics(sides[0]), _mathematics(sides[2])
    if low is None or high is None or not (low.key + high.key).startswith("n:"):
        return None
    brackets = "[" if signs[0] == "<=" else "(", "]" if signs[1] == "<=" else ")"
    return Canonical(f"s{brackets[0]}{low.key};{high.key}{brackets[1]}", "set", text)


def _text(text: str) -> Canonical:
    folded = unicodedata.normalize("NFKC", text).casefold()
    folded = re.sub(r"(?<=\w)['’](?=\w)", "", folded)
    folded = re.sub(r"[^\w\s:/.\-+=<>^*\\]|(?<!\d)[:/.\-+](?!\d)|[.:](?!\d)|_", " ", folded)
    folded = " ".join(word for word in folded.split() if word not in ("a", "an", "the")) or " ".join(folded.split())
    shown = " ".join(text.split())
    if not folded:
        return Canonical(f"t:{shown}", "text", shown, parsed=False)
    unread = looks_mathematical(text) and not DATE_OR_RANGE.fullmatch(text)
    return Canonical(f"t:{folded}", "text", shown, parsed=not (unread or _REFUSALS.fullmatch(folded)))
