"""Noise that belongs to a trajectory: a function of its key and depth alone, so that no batching, order or neighbour
changes it.

A counter-based generator (Philox, Salmon et al. 2011) is keyed by (trajectory, depth). Keys are hashes: of the seed,
the problem and the trajectory's number, or of a parent and the number of a fork.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
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
    out = np.empty((len(keys), *shape), dtype=np.float32)
    philox = np.random.Philox(key=0)
    generator, state = np.random.Generator(philox), philox.state
    for row, (key, depth) in zip(out, keys, strict=True):
        # One generator set to each place: making one takes a quarter as long as drawing from it.
        state["state"] = {"key": np.array([key, 0], np.uint64), "counter": np.array([0, depth, 0, 0], np.uint64)}
        philox.state = state
        generator.standard_normal(dtype=np.float32, out=row)
    return torch.from_numpy(out)
