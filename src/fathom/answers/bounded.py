"""JSON Schema's keywords within bounds, for schemas and documents that strangers wrote.

The package ``jsonschema`` bounds nothing: patterns can backtrack for ever, unique items are compared each with each,
and references can double the work with every level. Here patterns are searched by the package ``regex``, which takes a
time limit, unique items are told apart by how they are written, and every keyword looks at the clock before it begins.
By itself, without those that it goes on to, none takes much longer than reading its document.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import regex

from fathom.answers.patterns import too_large
from fathom.answers.spelling import spelled

__all__ = ["Bounds", "TooLong", "Undecided", "bounded", "unbounded"]

_REFERRING = ("$ref", "$dynamicRef", "$recursiveRef")


class Undecided(Exception):
    """A check that does not tell whether the document is valid."""


class TooLong(Undecided):
    """A check that takes longer than it may."""


@dataclass(slots=True)
class Bounds:
    """What one check may take: ``seconds`` in all, ``search`` seconds for one pattern, and so many ``references`` that
    are followed. Where it is ``strict``, a pattern that cannot be read raises Undecided; else it says nothing."""

    seconds: float
    search: float = math.inf
    references: float = math.inf
    strict: bool = True
    _until: float = field(default=math.inf, init=False)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Have the check that is made inside keep these bounds. It raises TooLong where it would not."""
        now = replace(self)
        now._until = time.monotonic() + self.seconds
        token = _NOW.set(now)
        try:
            yield
        finally:
            _NOW.reset(token)

    @property
    def left(self) -> float:
        """Seconds. Raises TooLong where there are none."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TooLong
        return left

    def finds(self, pattern: str, text: str) -> bool | None:
        """Whether a pattern is found in a text, None where it cannot be read."""
        try:
            if too_large(pattern):
                raise regex.error("its counts make it too large")
            return regex.search(pattern, text, timeout=min(self.search, self.left), concurrent=True) is not None
        except TimeoutError:
            raise TooLong from None
        except regex.error as error:
            if self.strict:
                raise Undecided(f"the pattern {pattern!r:.80} cannot be read: {error}") from None
            return None


_NOW: ContextVar[Bounds] = ContextVar("bounds of the check that is made now")


def unbounded(written: str) -> bool:
    """Whether a schema, as text, may use keywords together that search for its patterns past these bounds."""
    return '"patternProperties"' in written and '"unevaluatedProperties"' in written


@lru_cache(maxsize=16)
def bounded(kind: Any) -> Any:
    """The class of validators that does what ``kind`` does, within the bounds that are held."""
    import jsonschema

    extend: Any = jsonschema.validators.extend  # untyped
    keywords = {name: _OWN.get(name, plain) for name, plain in kind.VALIDATORS.items()}
    return extend(kind, {name: _watched(keyword, name in _REFERRING) for name, keyword in keywords.items()})


def _watched(keyword: Any, refers: bool) -> Any:
    def watched(validator: Any, *said: Any) -> Iterator[Any]:
        bounds = _NOW.get()
        bounds.left  # noqa: B018  (raises)
        if refers:
            bounds.references -= 1
            if bounds.references < 0:
                raise TooLong
        yield from keyword(validator, *said) or ()

    return watched


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "string") and _NOW.get().finds(pattern, instance) is False:
        yield _wrong(f"{instance!r:.80} does not match {pattern!r:.80}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Mapping[str, Any]
) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, wanted in patterns.items():
        for name, value in instance.items():
            if _NOW.get().finds(pattern, name):
                yield from validator.descend(value, wanted, path=name, schema_path=pattern)


def _additional_properties(validator: Any, wanted: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    told, patterns = schema.get("properties", {}), schema.get("patternProperties", ())
    for name, value in instance.items():
        if name in told or any(_NOW.get().finds(pattern, name) is not False for pattern in patterns):
            continue
        if validator.is_type(wanted, "object"):
            yield from validator.descend(value, wanted, path=name)
        elif not wanted:
            yield _wrong(f"the property {name!r:.80} is not allowed")


def _unique_items(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[Any]:
    if wanted and validator.is_type(instance, "array") and len(set(map(spelled, instance))) < len(instance):
        # numbers themselves can be chosen to share a hash
        yield _wrong(f"{instance!r:.80} has equal items")


_OWN = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}


def _wrong(message: str) -> Any:
    from jsonschema import ValidationError

    return ValidationError(message)
