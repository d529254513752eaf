"""A smaller model of transformers that drafts for a larger one with the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.language.engines.base import Sampling
from fathom.language.engines.common_prefix import common_prefix
from fathom.language.engines.hf_model import HFModel
from fathom.language.model_drafting import ModelDrafter

__all__ = ["HFDrafter"]


class HFDrafter(ModelDrafter):
    """Drafts one text, with a cache of its own."""

    def __init__(self, model: HFModel, text: Sequence[int], sampling: Sampling, size: int, *, seed: int) -> None:
        super().__init__(text, sampling, size, seed=seed)
        self._model = model
        self._held: list[int] = []  # what is in the cache
        self._cache: Any = model.cache()

    def _missing(self, text: Sequence[int]) -> int:
        return len(text) - self._common(text)

    def _common(self, text: Sequence[int]) -> int:
        return min(common_prefix(self._held, text), len(text) - 1)

    def _next(self, text: list[int]) -> NDArray[np.float32] | None:
        if self._model.context and len(text) >= self._model.context:
            return None
        logits = self._go_on(text)
        while len(self._held) < len(text):
            logits = self._go_on(text)
        return logits

    def _go_on(self, text: Sequence[int]) -> NDArray[np.float32]:
        """Read a piece of a text, of which at least the last token is read anew: the logits after it."""
        common = self._common(text)
        if common < len(self._held):
            self._cache.crop(common - len(self._held))
        piece = text[common : common + self._model.piece]
        logits = self._model.forward([piece], self._cache, keep=1)[0, -1]
        self._held = [*text[:common], *piece]
        found: NDArray[np.float32] = logits.cpu().numpy()
        return found
