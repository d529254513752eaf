"""One way to write a JSON value, the same for all values that are equal: keys sorted, numbers by what they come to."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

__all__ = ["spelled"]


def spelled(value: Any) -> str:
    """Equal for values that JSON Schema takes to be equal, whose numbers were all read as Decimal, or none of them."""
    match value:
        case dict():
            return "{" + ",".join(f"{json.dumps(k)}:{spelled(v)}" for k, v in sorted(value.items())) + "}"
        case list():
            return "[" + ",".join(map(spelled, value)) + "]"
        case Decimal():
            return _number(value)
        case float() if value.is_integer():
            return str(int(value))
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
