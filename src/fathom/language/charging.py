"""What an engine says that a piece of text cost, put on the account of whoever asked for it, to the last token."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from fathom.budget import Lease
from fathom.language.engines.base import Generation, Piece

__all__ = ["charge", "cut_off"]


def charge(lease: Lease, role: str, piece: Piece, *, seen: int, parameters: int = 0) -> None:
    """Count a piece against its lease. ``seen`` are the tokens of its choice so far, those of the piece included;
    ``parameters`` of the model give the FLOPs estimate, 2 for each of them and token."""
    lease.charge(
        role,
        tokens=piece.tokens,
        prompt_tokens=piece.prompt_tokens,
        reused_tokens=piece.reused_tokens,
        estimated_tokens=seen if piece.estimated and piece.finish else 0,
        accepted_draft_tokens=piece.accepted_draft_tokens,
        rejected_draft_tokens=piece.rejected_draft_tokens,
        flops=2.0 * parameters * (piece.tokens + piece.prompt_tokens),
        calls=piece.lost or piece.finish is not None,
    )


async def cut_off(generation: Generation, open_choices: Iterable[int], take: Callable[[Piece], object]) -> None:
    """Cancel these choices of a generation that nobody reads on, and ``take`` what is left of them: it is there at
    once, and what was generated for nothing was paid for too."""
    for index in tuple(open_choices):
        generation.cancel(index)
    with suppress(Exception):  # what ended the reading is to be told, and nothing that comes after it
        async for piece in generation:
            take(piece)
