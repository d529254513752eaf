"""Durations and sizes as people write them."""

from __future__ import annotations

import math
import re

from fathom.errors import LimitError

__all__ = ["MOST", "parse_duration", "parse_size"]

MOST = 1e300
"""Beyond it numbers are no more than a way to break things."""

_DURATION_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(ms|s|min|m|h)\s*", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9}
_SIZE_UNITS |= {"tb": 10**12, "t": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*([a-z]*)", re.IGNORECASE)


def parse_duration(text: str | float) -> float:
    """Seconds, from a number of seconds or from text as people write it: ``150ms``, ``2s``, ``1m30s``, ``1h``, ``2``.

    Raises LimitError on anything else.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text) if abs(text) < MOST else math.inf  # of whole numbers beyond floats, too
    stripped = str(text).strip()
    try:
        return float(stripped)
    except ValueError:
        pass
    total, end = 0.0, 0
    for match in _DURATION.finditer(stripped):
        if match.start() != end:
            break
        total += float(match[1]) * _DURATION_UNITS[match[2].lower()]
        end = match.end()
    if end == 0 or end != len(stripped):
        raise LimitError("seconds", f"cannot read {text!r} as a duration; write it like 150ms, 2s, 1m30s or 1h")
    return total


def parse_size(text: str | float) -> int:
    """Bytes, from a number or from text: ``512MB`` (powers of 1000), ``2GiB`` (powers of 1024), ``64k``.

    Raises LimitError on anything else.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        size: float = text
    else:
        match = _SIZE.fullmatch(str(text).strip())
        if match is None or match[2].lower() not in _SIZE_UNITS:
            raise LimitError("memory_bytes", f"cannot read {text!r} as a size; write it like 512MB, 2GiB or 64k")
        size = float(match[1]) * _SIZE_UNITS[match[2].lower()]
    if isinstance(size, float) and not math.isfinite(size):
        raise LimitError("memory_bytes", f"memory_bytes must be a finite number of bytes, not {str(text)[:100]}")
    return int(size)
