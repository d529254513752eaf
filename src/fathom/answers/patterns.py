"""Regular expressions that strangers wrote: whether one can be compiled at all.

To compile one, what is to be repeated so many times is written out as often, so that a few characters would take all
memory. (How long a search takes is bounded by the package ``regex``.)
"""

from __future__ import annotations

import re

__all__ = ["too_large"]

_MOST = 200_000


def too_large(pattern: str) -> bool:
    """Whether a pattern may be too large when its counts are written out, as ``((a{1000}){1000}){1000}`` is.

    A count behind a letter or a set repeats nothing that repeats.
    """
    single, groups = 1, 1
    for before, count in re.findall(r"(.?)\{\s*(\d+)", pattern, re.DOTALL):
        times = max(1, int(count)) if len(count) < 10 else _MOST
        if before == "]" or before.isalnum():
            single = max(single, times)
        else:
            groups *= times
    return len(pattern) * single * groups > _MOST
