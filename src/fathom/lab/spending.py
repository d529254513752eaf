"""Sums and differences of what was spent: how a sweep adds up its account, and tells what is new in it."""

from __future__ import annotations

from collections.abc import Mapping

from fathom.records import Spent

__all__ = ["rest", "total"]

_SUMMED = (
    "seconds", "tokens", "prompt_tokens", "reused_tokens", "estimated_tokens", "accepted_draft_tokens",
    "rejected_draft_tokens", "calls", "width", "flops",
)  # fmt: skip


def total(a: Spent, b: Spent) -> Spent:
    """What both spent together: of memory and depth the larger one, for neither adds up over time."""
    return Spent(
        **{name: getattr(a, name) + getattr(b, name) for name in _SUMMED},
        tokens_by_role=_roles(a.tokens_by_role, b.tokens_by_role, 1),
        depth=max(a.depth, b.depth),
        memory_bytes=max(a.memory_bytes, b.memory_bytes),
        cost=None if a.cost is None or b.cost is None else a.cost + b.cost,
    )


def rest(now: Spent, before: Spent) -> Spent:
    """What was spent beside ``before``, which is a part of ``now``; peak memory and depth are those of ``now``.

    Tokens may come out negative: an engine corrects at the end what it counted while it wrote.
    """
    return Spent(
        **{name: getattr(now, name) - getattr(before, name) for name in _SUMMED},
        tokens_by_role=_roles(now.tokens_by_role, before.tokens_by_role, -1),
        depth=now.depth,
        memory_bytes=now.memory_bytes,
        cost=None if now.cost is None else now.cost - (before.cost or 0.0),
    )


def _roles(a: Mapping[str, int], b: Mapping[str, int], sign: int) -> dict[str, int]:
    sums = {role: a.get(role, 0) + sign * b.get(role, 0) for role in {**a, **b}}
    return {role: tokens for role, tokens in sums.items() if tokens}
