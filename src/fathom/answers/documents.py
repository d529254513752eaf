"""JSON as an answer: when two documents mean the same, and whether one has the shape that was asked for.

Objects are equal whatever the order of their keys, and numbers by value (RFC 8259 leaves both to the reader; JSON
Schema, section 4.2.2, says so of numbers). Documents and schemas come from strangers: what would take long to read or
to check counts as not valid.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal, DecimalException
from functools import lru_cache
from typing import Any

import regex

from fathom.errors import SpecError

__all__ = ["Schema", "canonical_json"]

_SCHEMA_LENGTH = 32_768  # of the schema as text
_REFERENCES = 2_000  # that one check may follow: without references, a check cannot take much longer than a reading
_PATTERN_SECONDS = 0.05


def canonical_json(text: str) -> str | None:
    """The same for all spellings of a document: keys sorted, numbers by value, no white space. None for what is none.

    >>> canonical_json('{"b": 1.50, "a": [2e1]}') == canonical_json('{"a":[20.0],"b":1.5}')
    True
    """
    try:
        return _written(json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse))
    except (ValueError, RecursionError, DecimalException):
        return None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON value")


def _written(value: Any) -> str:
    match value:
        case dict():
            return "{" + ",".join(f"{json.dumps(k)}:{_written(v)}" for k, v in sorted(value.items())) + "}"
        case list():
            return "[" + ",".join(map(_written, value)) + "]"
        case Decimal():
            return _number(value)
        case _:
            return json.dumps(value)


def _number(value: Decimal) -> str:
    """By its digits and the power of ten behind them: ``1.50`` is ``15e-1``. Never written out: ``1e999`` is long."""
    sign, digits, exponent = value.as_tuple()
    written = "".join(map(str, digits)).lstrip("0")
    kept = written.rstrip("0")
    if not kept or not isinstance(exponent, int):
        return "0"
    power = exponent + len(written) - len(kept)
    return f"{'-' * sign}{kept}{f'e{power}' if power else ''}"


class _TooLong(Exception):
    """A check that would take long."""


class Schema:
    """A JSON schema, of any draft that the package ``jsonschema`` knows. Raises SpecError for what is none.

    References to other documents are not followed. A schema with patterns for the names of properties is checked for
    being JSON alone, as is a pattern that Python cannot read: neither can be bounded in time here.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        import jsonschema
        import referencing

        written = json.dumps(schema)
        if len(written) > _SCHEMA_LENGTH:
            raise SpecError(f"a JSON schema of {len(written)} characters; at most {_SCHEMA_LENGTH} are taken")
        kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        try:
            kind.check_schema(dict(schema))
        except (jsonschema.SchemaError, RecursionError) as error:
            raise SpecError(f"not a JSON schema: {getattr(error, 'message', error):.200}") from None
        self._left = 0
        bounded = {name: self._following(kind.VALIDATORS[name]) for name in _REFERRING if name in kind.VALIDATORS}
        extend: Any = jsonschema.validators.extend  # untyped
        kind = extend(kind, {**bounded, "pattern": _pattern})
        nowhere: referencing.Registry[Any] = referencing.Registry()
        self._validator = None if '"patternProperties"' in written else kind(schema, registry=nowhere)

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> Schema:
        """The same for the same schema, as long as it is remembered. Of a large one the first takes up to a second."""
        return _remembered(json.dumps(schema))

    def allows(self, text: str) -> bool:
        """Whether a text is JSON that the schema allows."""
        from referencing.exceptions import Unresolvable

        self._left = _REFERENCES
        try:
            document = json.loads(text, parse_constant=_refuse)
            return self._validator is None or bool(self._validator.is_valid(document))
        except (ValueError, RecursionError, _TooLong, Unresolvable):
            return False

    def _following(self, plain: Any) -> Any:
        def follow(validator: Any, *said: Any) -> Iterator[Any]:
            self._left -= 1
            if self._left < 0:
                raise _TooLong
            yield from plain(validator, *said) or ()

        return follow


_REFERRING = ("$ref", "$dynamicRef", "$recursiveRef")


@lru_cache(maxsize=256)
def _remembered(schema: str) -> Schema:
    return Schema(json.loads(schema))


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if not validator.is_type(instance, "string"):
        return
    try:
        found = regex.search(pattern, instance, timeout=_PATTERN_SECONDS)
    except TimeoutError:
        raise _TooLong from None
    except regex.error:
        return
    if not found:
        yield ValidationError(f"{instance!r:.80} does not match {pattern!r:.80}")
