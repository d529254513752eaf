"""The account of the cache against a cache that remembers everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fathom.language.engines.common_prefix import common_prefix
from fathom.language.engines.llama_cache import PINNED, CachedSequence, SequenceCache

CELLS, SEQUENCES = 24, 5
TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=12)


@given(st.lists(st.integers(0, 1)), st.lists(st.integers(0, 1)))
def test_common_prefix(a: list[int], b: list[int]) -> None:
    length = common_prefix(a, b)
    assert a[:length] == b[:length]
    assert length == min(len(a), len(b)) or a[length] != b[length]


class Cells:
    """A key-value cache that holds which token lies in which cell, and for which sequences."""

    def __init__(self) -> None:
        self.cells: list[tuple[int, int, set[int]]] = []  # position, token, sequences

    def copy(self, source: int, target: int, end: int) -> None:
        for position, _, owners in self.cells:
            if source in owners and position < end:
                owners.add(target)

    def cut(self, sequence: int, length: int = 0) -> None:
        for position, _, owners in self.cells:
            if position >= length:
                owners.discard(sequence)
        self.cells = [cell for cell in self.cells if cell[2]]

    def decode(self, sequence: int, position: int, token: int) -> None:
        self.cells.append((position, token, {sequence}))

    def tokens(self, sequence: int) -> list[int]:
        return [token for _, token, owners in sorted(self.cells, key=lambda cell: cell[0]) if sequence in owners]


class CacheMachine(RuleBasedStateMachine):
    """Whatever is begun, extended, kept, dropped and evicted: account and cache say the same."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = Cells()
        self.cache = SequenceCache(self.memory, CELLS, SEQUENCES)
        self.live: list[CachedSequence] = []

    @rule(tokens=TOKENS)
    def begin(self, tokens: list[int]) -> None:
        _, longest = self.cache.longest(tokens)
        sequence = self.cache.begin(tokens, len(tokens))
        if sequence is None:
            assert len(self.live) == SEQUENCES
            return
        assert sequence.tokens == tokens[: len(sequence)]
        assert len(sequence) <= longest
        self.live.append(sequence)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), tokens=TOKENS)
    def extend(self, data: st.DataObject, tokens: list[int]) -> None:
        sequence = data.draw(st.sampled_from(self.live))
        while self.cache.free < len(tokens) and self.cache.evict():
            pass
        tokens = tokens[: self.cache.free]
        for offset, token in enumerate(tokens):
            self.memory.decode(sequence.id, len(sequence) + offset, token)
        self.cache.extend(sequence, tokens)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), keep=st.booleans(), pinned=st.booleans())
    def end(self, data: st.DataObject, keep: bool, pinned: bool) -> None:
        sequence = data.draw(st.sampled_from(self.live))
        self.live.remove(sequence)
        if keep:
            self.cache.keep(sequence, pinned=pinned)
        else:
            self.cache.drop(sequence)

    @rule()
    def forget(self) -> None:
        self.cache.forget()

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def interrupted(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.live))
        self.memory.decode(sequence.id, len(sequence), 9)
        self.cache.restore(sequence)

    @invariant()
    def account_and_cache_agree(self) -> None:
        assert self.cache.free == CELLS - len(self.memory.cells)
        for sequence in self.live:
            assert self.memory.tokens(sequence.id) == sequence.tokens
        assert len(self.live) + self.cache.kept <= SEQUENCES

    def teardown(self) -> None:
        for sequence in self.live:
            self.cache.keep(sequence)
        while self.cache.evict():
            pass
        assert self.cache.free == CELLS
        assert not self.memory.cells


TestCache = CacheMachine.TestCase


def test_the_least_recently_used_goes_first() -> None:
    cache = SequenceCache(Cells(), 100, 8)
    for first in (1, 2, 3):
        sequence = cache.begin([], 0)
        assert sequence is not None
        cache.extend(sequence, [first, 7])
        cache.keep(sequence)
    used = cache.begin([1, 7, 7], 3)  # touches the oldest
    assert used is not None
    cache.drop(used)
    cache.evict()
    assert [cache.longest([first, 7])[1] for first in (1, 2, 3)] == [2, 0, 2]


def ended(cache: SequenceCache, tokens: list[int], *, pinned: bool = False) -> None:
    sequence = cache.begin(tokens, len(tokens))
    assert sequence is not None
    cache.extend(sequence, tokens[len(sequence) :])
    cache.keep(sequence, pinned=pinned)


def test_what_is_pinned_goes_last() -> None:
    cache = SequenceCache(Cells(), 100, 20)
    ended(cache, [1, 7], pinned=True)
    for first in range(2, 40):
        ended(cache, [first, 7])
    ended(cache, [1, 7, 8])  # goes on from it, and is one like others
    assert cache.longest([1, 7])[1] == 2
    cache.forget()
    assert (cache.kept, cache.longest([1, 7, 8])[1]) == (1, 2)
    assert cache.evict()
    assert not cache.evict()


def test_of_what_is_pinned_the_latest_few_are() -> None:
    cache = SequenceCache(Cells(), 100, 20)
    for first in (0, 0, *range(1, PINNED + 2)):  # the first of them twice
        ended(cache, [first, 7], pinned=True)
    cache.forget()
    assert [first for first in range(PINNED + 2) if cache.longest([first, 7])[1] == 2] == [*range(2, PINNED + 2)]
