"""The embedded model as something to be timed (``pace``): a prompt is read, and sequences step beside each other."""

from __future__ import annotations

import time

from fathom.errors import EngineError
from fathom.language.engines.llama_cache import CachedSequence, SequenceCache
from fathom.language.engines.llama_model import Context, Row
from fathom.language.engines.llama_sampling import Sampler

__all__ = ["LlamaProbe"]

_TOKEN = 100  # which one does not matter: the same numbers are multiplied for all


class LlamaProbe:
    """Times steps with all that belongs to them, the drawing of tokens too. Runs on the worker's thread alone."""

    def __init__(self, context: Context, cache: SequenceCache, sampler: Sampler) -> None:
        self._context, self._cache, self._sampler = context, cache, sampler

    def threads(self, count: int) -> None:
        self._context.set_threads(count)

    def read(self, tokens: int) -> float:
        """At most half of the cache is read; the rest is reckoned in proportion."""
        taken = min(tokens, self._context.cells // 2, self._context.batch)
        return self._time([taken]) * tokens / taken

    def step(self, width: int) -> float:
        return self._time([1] * width)

    def _time(self, lengths: list[int]) -> float:
        while self._cache.free < sum(lengths) and self._cache.evict():
            pass
        sequences = [self._begin() for _ in lengths]
        rows: list[Row] = []
        for sequence, length in zip(sequences, lengths, strict=True):
            rows += [(_TOKEN, position, sequence.id, position == length - 1) for position in range(length)]
        begin = time.perf_counter()
        status = self._context.decode(rows)
        for row, wanted in enumerate(rows):
            if status == 0 and wanted[3]:
                self._sampler.draw(self._context.logits(row))
        seconds = time.perf_counter() - begin
        for sequence in sequences:
            self._cache.drop(sequence)
        if status == 2:
            raise EngineError("the measurement was interrupted")
        if status:
            raise EngineError("the engine is too busy to be measured")
        return seconds

    def _begin(self) -> CachedSequence:
        sequence = self._cache.begin([], 0)
        if sequence is None:
            raise EngineError("the engine is too busy to be measured")
        return sequence
