"""Noise that belongs to a trajectory: a function of its key and depth alone, so that no batching, order or neighbour
changes it.

The generator is seeded anew for each (trajectory, depth) with a hash of both. Keys are hashes too: of the seed, the
problem and the trajectory's number, or of a parent and the number of a fork.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["key_of", "noise_of"]


def key_of(*parts: int | bytes) -> int:
    """A 64-bit key for a sequence of numbers and byte strings."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        piece = part if isinstance(part, bytes) else part.to_bytes(16, "little", signed=True)
        digest.update(len(piece).to_bytes(8, "little") + piece)
    return int.from_bytes(digest.digest(), "little")


def noise_of(keys: Sequence[tuple[int, int]], shape: Sequence[int]) -> Tensor:
    """Standard normal noise for each (key, depth): (len(keys), *shape), float32."""
    out = torch.empty(len(keys), *shape)
    generator = torch.Generator()
    for row, named in zip(out, keys, strict=True):
        row.normal_(generator=generator.manual_seed(key_of(*named)))
    return out
