"""A smaller model that drafts for a larger one with the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.language.engines.base import Sampling
from fathom.language.engines.hf_model import HFModel
from fathom.language.engines.llama_cache import common_prefix
from fathom.language.speculative import Draft, Laws, draw, laws

__all__ = ["ModelDrafter"]


class ModelDrafter:
    """Drafts one text by sampling from a model, as the target samples. ``size`` is that of the target's vocabulary."""

    free = False

    def __init__(self, model: HFModel, text: Sequence[int], sampling: Sampling, size: int, *, seed: int) -> None:
        self._model, self._sampling, self._size = model, sampling, size
        self._text = list(text)
        self._read: list[int] = []  # what is in the cache
        self._cache: Any = model.cache()
        self._rng = np.random.default_rng((seed, 1))  # apart from the numbers that drafts are weighed with

    def extend(self, tokens: Sequence[int]) -> None:
        self._text += tokens

    def draft(self, most: int, branches: int = 1) -> Draft:
        """A chain, whatever ``branches``."""
        tokens: list[int] = []
        drawn: list[Laws] = []
        most = min(most, (self._model.context or len(self._text) + most) - len(self._text))
        for _ in range(most):
            law = self._next([*self._text, *tokens])
            drawn.append(law)
            tokens.append(int(draw(law[None], self._rng.random(1))[0]))
        return Draft.chain(tokens, laws=np.stack(drawn) if drawn else None)

    def _next(self, text: list[int]) -> Laws:
        """The law of what follows a text, over the target's vocabulary."""
        common = min(common_prefix(self._read, text), len(text) - 1)
        if common < len(self._read):
            self._cache.crop(common - len(self._read))
        self._read = text[:common]
        logits: Any = None
        while len(self._read) < len(text):
            piece = text[len(self._read) : len(self._read) + self._model.piece]
            logits = self._model.forward([piece], self._cache, keep=1)
            self._read += piece
        law = laws(logits[0, -1, : self._size].cpu().numpy(), self._sampling)
        return np.pad(law, (0, self._size - len(law)))
