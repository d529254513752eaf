"""What an engine says that a piece of text cost, put on the account of whoever asked for it."""

from __future__ import annotations

from fathom.budget import Lease
from fathom.language.engines.base import Piece

__all__ = ["charge"]


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
