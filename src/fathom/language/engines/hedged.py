"""A second request for what a server keeps waiting (Dean and Barroso, "The Tail at Scale", 2013).

Most replies begin within a known time; a few take many times as long, and a search waits for the last of its samples.
A choice of which nothing has come after the time in which 95 of 100 recently began is asked for once more; what begins
first is taken, the other is cancelled, and both are paid for. Only a small share of the requests may be hedged, so that
a server that is slow as a whole is not asked twice for everything.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from fathom.language.engines.base import Engine, Finish, Generation, Piece, Request
from fathom.language.engines.wrapped import WrappedEngine

__all__ = ["HedgedEngine"]

RECENT = 128  # begun replies by which the usual time is told
LEAST = 20  # without so many, nothing is known
TAIL = 0.95
SAVED = 8.0  # hedges at most that a quiet time saves up


class _Beginnings:
    """How long replies recently took to begin."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._fresh = 0
        self._late: float | None = None

    def add(self, seconds: float) -> None:
        self._recent.append(seconds)
        self._fresh += 1
        if self._fresh >= RECENT // 8 and len(self._recent) >= LEAST:
            self._fresh = 0
            self._late = sorted(self._recent)[int(TAIL * len(self._recent))]

    @property
    def late(self) -> float | None:
        """Seconds after which a reply is a straggler."""
        return self._late


class HedgedEngine(WrappedEngine):
    """An engine of a server whose stragglers are asked for twice; ``share`` of the requests at most, 0 is none.

    Its generations must bear it that the reading of a piece is cancelled, and lose nothing by it.
    """

    def __init__(self, engine: Engine, share: float = 0.05) -> None:
        super().__init__(engine)
        self._share = share
        self._allowed = 1.0 if share else 0.0
        self._whole, self._streamed = _Beginnings(), _Beginnings()
        self.hedged = 0  # requests so far of which some choices were asked for twice
        self.won = 0  # of these, those of which a second request brought one

    def generate(self, request: Request) -> Generation:
        self._allowed = min(SAVED, self._allowed + self._share)
        return _Hedged(self, request)

    def plain(self, request: Request) -> Generation:
        """A generation that is not hedged."""
        return self._engine.generate(request)

    def beginnings(self, request: Request) -> _Beginnings:
        return self._streamed if request.stream else self._whole

    def permit(self) -> bool:
        """Whether one more may be hedged now; then it counts as such."""
        if self._allowed < 1.0:
            return False
        self._allowed -= 1.0
        self.hedged += 1
        return True


@dataclass(eq=False)
class _Source:
    """One of the requests: its choice i is choice ``first + i`` of what was asked."""

    generation: Generation
    first: int
    count: int

    def cancel(self, index: int) -> None:
        if self.first <= index < self.first + self.count:
            self.generation.cancel(index - self.first)


@dataclass
class _Place:
    """A choice: who is to bring it. ``last`` is its end, held back until the losers have told what they cost."""

    sources: list[_Source]
    owner: _Source | None = None
    last: Piece | None = None
    began: bool = False


class _Hedged:
    """See `fathom.language.engines.base.Generation`.

    Until it may have to be hedged, the one request is read directly; then each of them by a task of its own.
    """

    def __init__(self, engine: HedgedEngine, request: Request) -> None:
        self._engine = engine
        self._request = request
        self._first = _Source(engine.plain(request), 0, request.n)
        self._places = [_Place([self._first]) for _ in range(request.n)]
        self._tasks: list[asyncio.Task[None]] = []
        self._out: deque[Piece | Exception] = deque()
        self._more = asyncio.Event()
        self._left = request.n
        self._since = 0.0
        self._hedge_at: float | None = None
        self._won = False

    async def __aenter__(self) -> Self:
        await self._first.generation.__aenter__()
        self._pieces = aiter(self._first.generation)
        self._since = time.monotonic()
        late, deadline = self._engine.beginnings(self._request).late, self._request.deadline
        if late is not None and (deadline is None or self._since + 2 * late < deadline):
            self._hedge_at = asyncio.get_running_loop().time() + late
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._first.generation.__aexit__(*exc)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        while not self._out:
            if not self._left:
                raise StopAsyncIteration
            if self._tasks:
                self._more.clear()
                await self._more.wait()
            elif self._hedge_at is None:
                self._take(self._first, await anext(self._pieces))
            else:
                try:
                    async with asyncio.timeout_at(self._hedge_at):
                        piece = await anext(self._pieces)
                except TimeoutError:
                    self._hedge_at = None
                    self._tasks.append(asyncio.create_task(self._read_first()))
                    await asyncio.sleep(0)  # what has come at this very moment is taken
                    self._hedge()
                else:
                    self._take(self._first, piece)
        found = self._out.popleft()
        if isinstance(found, Exception):
            raise found
        return found

    def cancel(self, index: int) -> None:
        for source in list(self._places[index].sources):
            source.cancel(index)

    async def _read_first(self) -> None:
        try:
            async for piece in self._pieces:
                self._take(self._first, piece)
        except Exception as error:
            self._put(error)

    async def _read(self, source: _Source) -> None:
        try:
            async with source.generation:
                async for piece in source.generation:
                    self._take(source, piece)
        except Exception as error:
            self._put(error)

    def _put(self, found: Piece | Exception) -> None:
        self._out.append(found)
        self._more.set()

    def _take(self, source: _Source, piece: Piece) -> None:
        piece.index += source.first
        place = self._places[piece.index]
        gave_up = piece.finish in (Finish.FAILED, Finish.CANCELLED)
        if not place.began:
            place.began = True
            if not gave_up:
                self._engine.beginnings(self._request).add(time.monotonic() - self._since)
        if piece.finish is not None:
            place.sources.remove(source)
        if place.owner is None and not (gave_up and place.sources):
            place.owner = source
            if not gave_up:
                self._count_win(source)
            for other in list(place.sources):
                if other is not source:
                    other.cancel(piece.index)
        if place.owner is not source:
            self._pay(piece)
        elif piece.finish is None:
            self._put(piece)
        else:
            place.last = piece
        if place.last is not None and not place.sources:
            self._put(place.last)
            place.last, self._left = None, self._left - 1

    def _count_win(self, owner: _Source) -> None:
        if owner is not self._first and not self._won:
            self._won = True
            self._engine.won += 1

    def _pay(self, piece: Piece) -> None:
        """What a choice that is not taken has cost, without what it said."""
        if piece.tokens or piece.prompt_tokens or piece.reused_tokens:
            cost = Piece(piece.index, tokens=piece.tokens, prompt_tokens=piece.prompt_tokens, estimated=piece.estimated)
            cost.reused_tokens = piece.reused_tokens
            self._put(cost)

    def _hedge(self) -> None:
        """Ask once more for the choices of which nothing has come."""
        silent = [index for index, place in enumerate(self._places) if not place.began]
        if not silent or not self._engine.permit():
            return
        for first, count in _runs(silent):
            seed = None if self._request.seed is None else self._request.seed + first
            source = _Source(self._engine.plain(replace(self._request, n=count, seed=seed)), first, count)
            for place in self._places[first : first + count]:
                place.sources.append(source)
            self._tasks.append(asyncio.create_task(self._read(source)))


def _runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbours together, as (first, how many): choices of one request draw with seeds in a row.

    >>> _runs([0, 1, 4])
    [(0, 2), (4, 1)]
    """
    runs: list[tuple[int, int]] = []
    for _, group in itertools.groupby(enumerate(indices), key=lambda at: at[1] - at[0]):
        run = [index for _, index in group]
        runs.append((run[0], len(run)))
    return runs
