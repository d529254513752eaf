"""A question put to a model by a benchmark that counts what it cost, whether or not an answer came of it."""

from __future__ import annotations

from typing import Any

import fathom
from fathom.reasoner import Reasoner


async def ended(model: Reasoner, text: str, **options: Any) -> tuple[str, fathom.Receipt]:
    """The answer, empty where there was none, and the account. ``options`` are those of ``fathom.asolve``.

    Raises NoAnswer where the run had not begun and there is no account.
    """
    try:
        result = await fathom.asolve(model, text, **options)
        return result.answer, result.receipt
    except fathom.NoAnswer as error:
        if error.receipt is None:
            raise
        return "", error.receipt
