"""JSON as an answer: when two documents mean the same, and whether one has the shape that was asked for.

Objects are equal whatever the order of their keys, and numbers by value (RFC 8259 leaves both to the reader; JSON
Schema, section 4.2.2, says so of numbers). Documents and schemas come from strangers: what would take long to read or
to check counts as not valid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, DecimalException
from functools import lru_cache
from typing import Any

from fathom.answers.bounded import Bounds, TooLong, Undecided, bounded, unbounded
from fathom.answers.spelling import spelled
from fathom.errors import SpecError

__all__ = ["Schema", "canonical_json", "read_json"]

_SCHEMA_LENGTH = 32_768  # of the schema as text
_IN_PASSING = Bounds(seconds=1.0, search=0.05, references=2_000, strict=False)
"""Of a check that others wait for. The clock is for what is hostile: what is not ends long before."""


def canonical_json(text: str) -> str | None:
    """The same for all spellings of a document: keys sorted, numbers by value, no white space. None for what is none.

    >>> canonical_json('{"b": 1.50, "a": [2e1]}') == canonical_json('{"a":[20.0],"b":1.5}')
    True
    """
    try:
        return spelled(json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse))
    except (ValueError, RecursionError, DecimalException):
        return None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON value")


class Schema:
    """A JSON schema, of any draft that the package ``jsonschema`` knows. Raises SpecError for what is none.

    References to other documents are not followed.
    """

    def __init__(self, schema: Mapping[str, Any] | bool) -> None:
        import jsonschema
        import referencing

        written = json.dumps(schema)
        if len(written) > _SCHEMA_LENGTH:
            raise SpecError(f"a JSON schema of {len(written)} characters; at most {_SCHEMA_LENGTH} are taken")
        kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        what = jsonschema.validators.validator_for(kind.META_SCHEMA, default=kind)
        try:
            with _IN_PASSING.hold():
                form = bounded(what)(kind.META_SCHEMA, format_checker=what.FORMAT_CHECKER)
                wrong = next(form.iter_errors(dict(schema) if isinstance(schema, Mapping) else schema), None)
        except (RecursionError, TooLong) as error:
            raise SpecError(f"not a JSON schema that can be read: {type(error).__name__}") from None
        if wrong is not None:
            raise SpecError(f"not a JSON schema: {wrong.message:.200}")
        nowhere: referencing.Registry[Any] = referencing.Registry()
        self._validator: Any = None if unbounded(written) else bounded(kind)(schema, registry=nowhere)

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> Schema:
        """The same for the same schema, as long as it is remembered. Of a large one the first takes up to a second."""
        return _remembered(json.dumps(schema))

    def allows(self, text: str) -> bool:
        """Whether a text is JSON that the schema allows.

        Patterns that cannot be read say nothing; a schema with both patternProperties and unevaluatedProperties is
        checked for being JSON alone.
        """
        try:
            document = read_json(text)
            return self._validator is None or self._first_fault(document, _IN_PASSING) is None
        except (Undecided, ValueError):
            return False

    def judge(self, document: Any, seconds: float) -> tuple[bool | None, str]:
        """Whether the schema allows a document, and what is wrong with it. None where that cannot be told, for lack of
        time, say."""
        if self._validator is None:
            return None, "patternProperties and unevaluatedProperties in one schema cannot be checked in bounded time"
        try:
            fault = self._first_fault(document, Bounds(seconds))
        except TooLong:
            return None, f"the check takes longer than {seconds:g} s"
        except Undecided as error:
            return None, str(error)
        return fault is None, fault or "valid"

    def _first_fault(self, document: Any, bounds: Bounds) -> str | None:
        """Raises Undecided."""
        from referencing.exceptions import Unresolvable

        try:
            with bounds.hold():
                error = next(self._validator.iter_errors(document), None)
        except (ArithmeticError, RecursionError, Unresolvable) as error:  # what a number is divided by, for one
            raise Undecided(f"{type(error).__name__}: {error}") from None
        if error is None:
            return None
        where = "/".join(map(str, error.absolute_path)) or "the root"
        return f"at {where}: {error.message:.200}"


def read_json(text: str) -> Any:
    """The document that a text is. Raises ValueError for what is no JSON, or nested too deep."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None


@lru_cache(maxsize=256)
def _remembered(schema: str) -> Schema:
    return Schema(json.loads(schema))
