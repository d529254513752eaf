"""Drawing tokens from logits on the model's device, for many rows at once.

The law is that of ``fathom.language.speculative.laws``; a token is the inversion of a uniform number that the choice's
own generator gave, so that a choice draws the same whatever runs beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.language.engines.base import Sampling
from fathom.language.engines.sampling import complete

__all__ = ["Uniforms", "draw", "measure"]


class Uniforms:
    """The uniform numbers of one choice; those that were looked at and not used come again."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._ahead: list[float] = []

    def look(self, count: int) -> list[float]:
        while len(self._ahead) < count:
            self._ahead.append(float(self._rng.random()))
        return self._ahead[:count]

    def use(self, count: int) -> None:
        self.look(count)
        del self._ahead[:count]


def draw(torch: Any, logits: Any, sampling: Sampling, uniforms: list[list[float]]) -> NDArray[np.int64]:
    """A token of each row: ``logits`` (rows, places, vocabulary), ``uniforms`` (rows, places)."""
    sampling = complete(sampling)
    with torch.inference_mode():
        if not sampling.temperature:
            return np.asarray(logits.argmax(dim=-1).cpu().numpy(), dtype=np.int64)
        if sampling.top_k and sampling.top_k < logits.shape[-1]:
            values, ids = logits.topk(sampling.top_k, dim=-1)
        else:
            values, ids = logits.sort(dim=-1, descending=True)
        precise = torch.float32 if logits.device.type == "mps" else torch.float64
        values = values.to(precise) - values[..., :1]
        weights = values.softmax(dim=-1)
        kept = weights >= (sampling.min_p or 0.0) * weights[..., :1]
        if sampling.top_p is not None and sampling.top_p < 1:
            kept &= weights.cumsum(dim=-1) - weights < max(sampling.top_p, 1e-12)
        drawn = torch.where(kept, (values / sampling.temperature).exp(), 0.0).cumsum(dim=-1)
        at = torch.tensor(uniforms, dtype=precise, device=logits.device)[..., None] * drawn[..., -1:]
        found = (drawn <= at).sum(dim=-1, keepdim=True)
        last = kept.sum(dim=-1, keepdim=True) - 1  # should rounding lead beyond the last one kept
        tokens = ids.gather(-1, found.minimum(last)).squeeze(-1)
        return np.asarray(tokens.cpu().numpy(), dtype=np.int64)


def measure(torch: Any, logits: Any, tokens: NDArray[np.int64], count: int) -> tuple[Any, Any, Any]:
    """Log-probabilities at temperature 1 of one token a place, and the ``count`` best with theirs.

    Shapes (rows, places), (rows, places, count), (rows, places, count), as lists.
    """
    with torch.inference_mode():
        logprobs = logits.log_softmax(dim=-1)
        chosen = torch.as_tensor(tokens, device=logits.device)[..., None]
        values, ids = logprobs.topk(min(count, logits.shape[-1]), dim=-1)
        return logprobs.gather(-1, chosen).squeeze(-1).tolist(), ids.tolist(), values.tolist()
