"""Keys and values of texts that ended, so that what begins alike is not read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fathom.language.engines.common_prefix import common_prefix

__all__ = ["KeptText", "PrefixCache", "row"]

Layers = tuple[tuple[Any, Any], ...]
"""Keys and values of each layer, each of shape (1, heads, length, width)."""


@dataclass(frozen=True, slots=True, eq=False)
class KeptText:
    """The tokens of a text, and the keys and values of all of them."""

    tokens: list[int]
    layers: Layers


PINNED = 8
"""Texts that are pinned at most."""


class PrefixCache:
    """Texts of ``most`` tokens together, the least recently used going first, and a few that were pinned."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._texts: list[KeptText] = []  # least recently used first
        self._pinned: list[KeptText] = []  # in the order in which they were
        self._size = 0

    def longest(self, tokens: Sequence[int]) -> tuple[KeptText | None, int]:
        """The text that has most of ``tokens``' beginning, and how much of it."""
        best, length = None, 0
        for text in self._texts:
            if (common := common_prefix(text.tokens, tokens)) > length:
                best, length = text, common
        for text in self._pinned:
            if (common := common_prefix(text.tokens, tokens)) > length:
                return text, common
        if best is not None:
            self._texts.remove(best)
            self._texts.append(best)
        return best, length

    def pin(self, tokens: Sequence[int]) -> None:
        """Hold what is kept of the beginning of these ``tokens`` for as long as no others are pinned in its place."""
        found, length = self.longest(tokens)
        if found is None or any(text.tokens == tokens[:length] for text in self._pinned):
            return
        layers = tuple((keys[:, :, :length].clone(), values[:, :, :length].clone()) for keys, values in found.layers)
        self._pinned = [*self._pinned[1 - PINNED :], KeptText(list(tokens[:length]), layers)]

    def keep(self, text: KeptText) -> None:
        """Hold a text in place of those that it begins with."""
        _, known = self.longest(text.tokens)
        if known == len(text.tokens):
            return
        for other in [t for t in self._texts if text.tokens[: len(t.tokens)] == t.tokens]:
            self._drop(other)
        self._texts.append(text)
        self._size += len(text.tokens)
        while self._size > self._most:
            self._drop(self._texts[0])

    def _drop(self, text: KeptText) -> None:
        self._texts.remove(text)
        self._size -= len(text.tokens)


def row(cache: Any, index: int, length: int) -> Layers:
    """A copy of the first ``length`` tokens of one row of a cache of transformers."""
    return tuple(
        (layer.keys[index : index + 1, :, :length].clone(), layer.values[index : index + 1, :, :length].clone())
        for layer in cache.layers
    )
