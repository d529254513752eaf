"""A smaller model that drafts for a larger one with the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.language.engines.base import Sampling
from fathom.language.engines.common_prefix import common_prefix
from fathom.language.engines.hf_model import HFModel
from fathom.language.speculative import Draft, Laws, draw, laws

__all__ = ["ModelDrafter"]


class ModelDrafter:
    """Drafts one text by sampling from a model, as the target samples. ``size`` is that of the target's vocabulary."""

    free = False

    def __init__(self, model: HFModel, text: Sequence[int], sampling: Sampling, size: int, *, seed: int) -> None:
        self._model, self._sampling, self._size = model, sampling, size
        self._text = list(text)
        self._held: list[int] = []  # what is in the cache
        self._cache: Any = model.cache()
        self._rng = np.random.default_rng((seed, 1))  # apart from the numbers that drafts are weighed with

    @property
    def behind(self) -> int:
        return len(self._text) - min(common_prefix(self._held, self._text), len(self._text) - 1)

    def read(self) -> int:
        before = self.behind
        self._go_on(self._text)
        return before - self.behind

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
        logits = self._go_on(text)
        while len(self._held) < len(text):
            logits = self._go_on(text)
        law = laws(logits[: self._size], self._sampling)
        return np.pad(law, (0, self._size - len(law)))

    def _go_on(self, text: list[int]) -> NDArray[np.float32]:
        """Read a piece of a text, of which at least the last token is read anew: the logits after it."""
        common = min(common_prefix(self._held, text), len(text) - 1)
        if common < len(self._held):
            self._cache.crop(common - len(self._held))
        piece = text[common : common + self._model.piece]
        logits = self._model.forward([piece], self._cache, keep=1)[0, -1]
        self._held = [*text[:common], *piece]
        found: NDArray[np.float32] = logits.cpu().numpy()
        return found
