"""A model of transformers as something to be timed (``pace``) and to score texts with. Runs on the worker's thread."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from fathom.language.engines.base import Sampling
from fathom.language.engines.hf_cache import PrefixCache
from fathom.language.engines.hf_model import HFModel
from fathom.language.engines.hf_sampling import draw, measure

__all__ = ["HFProbe", "score"]


class HFProbe:
    """Times steps with all that belongs to them, the drawing of tokens too."""

    def __init__(self, model: HFModel) -> None:
        self._model = model

    def threads(self, count: int) -> None:
        """Nothing: torch's threads belong to the whole process."""

    def read(self, tokens: int) -> float:
        begin = time.perf_counter()
        self._model.forward([[0] * tokens], self._model.cache(), keep=1).argmax().item()
        return time.perf_counter() - begin

    def step(self, width: int) -> float:
        cache = self._model.cache()
        self._model.forward([[0]] * width, cache, keep=1)
        begin = time.perf_counter()
        logits = self._model.forward([[0]] * width, cache, keep=1)
        draw(self._model.torch, logits, Sampling(), [[0.5]] * width)
        return time.perf_counter() - begin


def score(model: HFModel, kept: PrefixCache, begin: Sequence[int], end: Sequence[int]) -> tuple[float, ...]:
    """Natural-log probabilities of the tokens of ``end`` after ``begin``."""
    whole = [*begin, *end]
    text, at = kept.longest(begin[:-1])
    cache = model.cache(text.layers if text else (), at)
    found: list[float] = []
    while at < len(whole) - 1:
        piece = whole[at : min(at + model.piece, len(whole) - 1)]
        wanted = min(len(piece), max(1, at + len(piece) - len(begin) + 1))
        logits = model.forward([piece], cache, keep=wanted)
        at += len(piece)
        if at >= len(begin):
            following = np.array([whole[at - wanted + 1 : at + 1]])
            found += measure(model.torch, logits, following, 1)[0][0]
    return tuple(found)
