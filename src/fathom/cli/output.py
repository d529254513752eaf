"""How results are shown: one line of receipt for people, the whole of it as JSON for machines."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from fathom.records import Receipt, Spent, StopReason

__all__ = ["effort", "receipt_line", "to_json"]


def to_json(value: Any) -> str:
    """A record, or plain data, as indented JSON."""
    data = value if isinstance(value, dict | list) else asdict(value)
    return json.dumps(data, ensure_ascii=False, indent=2)


def effort(spent: Spent) -> str:
    """How much thinking it took: in words, or in a latent space of so many trajectories of such a depth."""
    words = spent.tokens or spent.prompt_tokens or not spent.depth
    return f"{spent.tokens} tokens" if words else f"{spent.width} wide, {spent.depth} deep"


def receipt_line(receipt: Receipt) -> str:
    """What a person wants to know of a receipt, in one line."""
    spent = receipt.spent
    parts = [f"{receipt.confidence:.0%} sure"]
    votes = sum(c.votes for c in receipt.candidates)
    if len(receipt.candidates) > 1 or votes > 1:
        leading = next((c.votes for c in receipt.candidates if c.answer == receipt.answer), 0)
        parts.append(f"{leading:g} of {votes:g} votes")
    if receipt.valid is not None and not (receipt.valid and receipt.stopped is StopReason.VERIFIED):
        parts.append("valid" if receipt.valid else "not valid")
    parts += [f"{receipt.stopped}", f"{spent.seconds:.2f} s", effort(spent)]
    if spent.prompt_tokens:
        parts.append(f"{spent.prompt_tokens} read, {spent.reused_tokens} reused")
    if spent.cost:
        parts.append(f"${spent.cost:.6f}")
    return " · ".join([*parts, receipt.strategy, receipt.model])
