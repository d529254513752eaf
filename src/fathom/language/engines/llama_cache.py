"""Which tokens lie in the key-value cache, under which sequences, and what may be shared or given up.

Every prompt starts from the longest beginning that any sequence, running or ended, already holds: sharing costs a
note in the cache and no reading. Ended sequences are kept until their room is needed, the least recently used going
first, and those that were pinned last of all. A cell holds one token and is free again when the last sequence that
shares it is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Protocol

from fathom.language.engines.common_prefix import common_prefix

__all__ = ["PINNED", "CachedSequence", "Memory", "SequenceCache"]

PINNED = 8
"""Sequences that are pinned at most; of more, the least recently used is one like others again."""


class Memory(Protocol):
    """The cache itself (``llama_model.Context``)."""

    def copy(self, source: int, target: int, end: int) -> None: ...

    def cut(self, sequence: int, length: int = 0) -> None: ...


class CachedSequence:
    """One sequence: the tokens that are in the cache, and the cells that hold them."""

    __slots__ = ("cells", "id", "tokens")

    def __init__(self, id: int) -> None:
        self.id = id
        self.tokens: list[int] = []
        self.cells: list[int] = []

    def __len__(self) -> int:
        return len(self.tokens)


class SequenceCache:
    """The account of ``cells`` cells and ``sequences`` sequence ids; it alone changes what ``memory`` shares and
    drops.
    """

    def __init__(self, memory: Memory, cells: int, sequences: int) -> None:
        self._memory = memory
        self._free_cells = list(range(cells))
        self._shares = [0] * cells
        self._free_ids = list(range(sequences - 1, -1, -1))
        self._live: dict[int, CachedSequence] = {}
        self._kept: dict[int, CachedSequence] = {}  # least recently used first
        self._pinned: dict[int, CachedSequence] = {}  # likewise

    @property
    def free(self) -> int:
        """Cells that hold nothing."""
        return len(self._free_cells)

    @property
    def kept(self) -> int:
        """Ended sequences that are still held."""
        return len(self._kept) + len(self._pinned)

    def longest(self, tokens: Sequence[int]) -> tuple[CachedSequence | None, int]:
        """The sequence that has most of ``tokens``' beginning, and how much of it."""
        best, length = None, 0
        for sequence in self._all:
            if len(sequence) > length and sequence.tokens[length] == tokens[length]:
                common = common_prefix(sequence.tokens, tokens)
                if common > length:
                    best, length = sequence, common
                    if length == len(tokens):
                        break
        return best, length

    def begin(self, tokens: Sequence[int], most: int) -> CachedSequence | None:
        """A new sequence with as much of the beginning of ``tokens`` as is cached, at most ``most`` tokens of it.

        None when all sequence ids are taken by running sequences.
        """
        source, shared = self.longest(tokens[:most]) if most > 0 else (None, 0)
        for ended in (self._kept, self._pinned):
            if source is not None and source.id in ended:  # used just now
                ended[source.id] = ended.pop(source.id)
        if not self._free_ids and not self.evict():
            return None
        if source is not None and all(source is not held for held in self._all):
            return self.begin(tokens, most)  # it was the one that had to go
        sequence = CachedSequence(self._free_ids.pop())
        if source is not None:
            self._memory.copy(source.id, sequence.id, shared)
            sequence.tokens = source.tokens[:shared]
            sequence.cells = source.cells[:shared]
            for cell in sequence.cells:
                self._shares[cell] += 1
        self._live[sequence.id] = sequence
        return sequence

    def extend(self, sequence: CachedSequence, tokens: Iterable[int]) -> None:
        """Note that ``tokens`` were decoded onto a sequence. The caller has seen to it that there are free cells."""
        for token in tokens:
            cell = self._free_cells.pop()
            self._shares[cell] = 1
            sequence.tokens.append(token)
            sequence.cells.append(cell)

    def restore(self, sequence: CachedSequence) -> None:
        """Cut from the memory whatever a failed decoding left there beyond what is on this account."""
        self._memory.cut(sequence.id, len(sequence))

    def keep(self, sequence: CachedSequence, *, pinned: bool = False) -> None:
        """End a sequence but hold its tokens for who may begin with them, as long as there is room.

        What is ``pinned`` goes when nothing else is left that could.
        """
        del self._live[sequence.id]
        if pinned and len(sequence):
            for other in [o for o in self._pinned.values() if o.tokens == sequence.tokens]:
                self._release(self._pinned.pop(other.id))
            self._pinned[sequence.id] = sequence
            if len(self._pinned) > PINNED:
                oldest = self._pinned.pop(next(iter(self._pinned)))
                self._kept[oldest.id] = oldest
        elif len(sequence) and not self._contained(sequence):
            self._kept[sequence.id] = sequence
        else:
            self._release(sequence)

    def drop(self, sequence: CachedSequence) -> None:
        """End a sequence and forget it."""
        del self._live[sequence.id]
        self._release(sequence)

    def evict(self) -> bool:
        """Give up the kept sequence that was used longest ago, a pinned one last; False when there is none."""
        ended = self._kept or self._pinned
        if not ended:
            return False
        self._release(ended.pop(next(iter(ended))))
        return True

    def forget(self) -> None:
        """Give up all kept sequences that are not pinned."""
        while self._kept:
            self.evict()

    @property
    def _all(self) -> Iterator[CachedSequence]:
        return chain(self._live.values(), self._kept.values(), self._pinned.values())

    def _contained(self, sequence: CachedSequence) -> bool:
        """Whether another sequence holds all of this one's tokens in the very same cells."""
        last, end = sequence.cells[-1], len(sequence)
        return self._shares[last] > 1 and any(len(o) >= end and o.cells[end - 1] == last for o in self._all)

    def _release(self, sequence: CachedSequence) -> None:
        self._memory.cut(sequence.id)
        for cell in sequence.cells:
            self._shares[cell] -= 1
            if not self._shares[cell]:
                self._free_cells.append(cell)
        self._free_ids.append(sequence.id)
