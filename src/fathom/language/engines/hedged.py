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
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

from fathom.language.engines.base import Engine, Finish, Generation, Piece, Request
from fathom.language.engines.wrapped import WrappedEngine

__all__ = ["HedgedEngine"]

RECENT = 128  # begun replies by which the usual time is told
LEAST = 20  # without so many, nothing is known
TAIL = 0.95
SAVED = 8.0  # hedges at most that a quiet time saves up

Hedge = Literal["sent", "won"]

_GAVE_UP = (Finish.FAILED, Finish.CANCELLED)


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

    ``hedged`` counts the requests of which choices were asked for twice, ``won`` those of them of which the second
    request brought one; ``told`` is called with either word when it happens.
    """

    def __init__(self, engine: Engine, share: float = 0.05) -> None:
        super().__init__(engine)
        self._share = share
        self._allowed = 1.0 if share else 0.0
        self._whole, self._streamed = _Beginnings(), _Beginnings()
        self.told: Callable[[Hedge], None] = lambda what: None
        self.hedged = 0
        self.won = 0

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
        self.told("sent")
        return True

    def win(self) -> None:
        """A second request has brought what the first kept waiting."""
        self.won += 1
        self.told("won")


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
    """A choice that was asked for twice: who may bring it, and who does.

    ``last`` is its end, held back until the losers have told what they cost.
    """

    sources: list[_Source]
    owner: _Source | None = None
    last: Piece | None = None


class _Hedged:
    """See `fathom.language.engines.base.Generation`.

    Until it is hedged, which few are, the one request is read directly; then each of them by a task of its own.
    """

    def __init__(self, engine: HedgedEngine, request: Request) -> None:
        self._engine = engine
        self._request = request
        self._first = _Source(engine.plain(request), 0, request.n)
        self._begun: set[int] = set()
        self._left = request.n
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._places: dict[int, _Place] = {}
        self._won = False
        self._tasks: list[asyncio.Task[None]] = []
        self._direct = True
        self._out: deque[Piece | BaseException] = deque()
        self._more = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._first.generation.__aenter__()
        self._pieces = aiter(self._first.generation)
        self._since = time.monotonic()
        late, deadline = self._engine.beginnings(self._request).late, self._request.deadline
        if late is not None and (deadline is None or self._since + 2 * late < deadline):
            self._timer = asyncio.get_running_loop().call_later(late, self._hedge)
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
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
            if not self._tasks:
                piece = await anext(self._pieces)
                if not self._places:
                    return self._noted(piece)
                self._take(self._first, piece)  # it was hedged meanwhile
                continue
            if self._direct:
                self._direct = False
                self._begin(self._read(self._first, self._pieces))
            self._more.clear()
            await self._more.wait()
        found = self._out.popleft()
        if isinstance(found, BaseException):
            raise found
        return found

    def cancel(self, index: int) -> None:
        place = self._places.get(index)
        for source in [self._first] if place is None else list(place.sources):
            source.cancel(index)

    def _hedge(self) -> None:
        """Ask once more for the choices of which nothing has come."""
        silent = [index for index in range(self._request.n) if index not in self._begun]
        if not silent or not self._engine.permit():
            return
        for first, count in _runs(silent):
            seed = None if self._request.seed is None else self._request.seed + first
            source = _Source(self._engine.plain(replace(self._request, n=count, seed=seed)), first, count)
            self._places |= {index: _Place([self._first, source]) for index in range(first, first + count)}
            self._begin(self._run(source))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._put(error)

    async def _run(self, source: _Source) -> None:
        async with source.generation:
            await self._read(source, aiter(source.generation))

    async def _read(self, source: _Source, pieces: AsyncIterator[Piece]) -> None:
        async for piece in pieces:
            self._take(source, piece)

    def _put(self, found: Piece | BaseException) -> None:
        self._out.append(found)
        self._more.set()

    def _noted(self, piece: Piece) -> Piece:
        """A piece that is going out."""
        if piece.index not in self._begun:
            self._begun.add(piece.index)
            if piece.finish not in _GAVE_UP:
                self._engine.beginnings(self._request).add(time.monotonic() - self._since)
        if piece.finish is not None:
            self._left -= 1
        return piece

    def _take(self, source: _Source, piece: Piece) -> None:
        """A piece has come, of one of the requests; that of the first to say anything is whose choice it is."""
        piece.index += source.first
        place = self._places.get(piece.index)
        if place is None:
            self._put(self._noted(piece))
            return
        if piece.finish is not None:
            place.sources.remove(source)
        if place.owner is None and not (piece.finish in _GAVE_UP and place.sources):
            place.owner = source
            if source is not self._first and piece.finish not in _GAVE_UP and not self._won:
                self._won = True
                self._engine.win()
            for other in list(place.sources):
                if other is not source:
                    other.cancel(piece.index)
        if place.owner is not source:
            self._pay(piece)
        elif piece.finish is None:
            self._put(self._noted(piece))
        else:
            place.last = piece
        if place.last is not None and not place.sources:
            self._put(self._noted(place.last))
            place.last = None

    def _pay(self, piece: Piece) -> None:
        """What a choice that is not taken has cost, without what it said."""
        if piece.tokens or piece.prompt_tokens or piece.reused_tokens:  # otherwise it had not been sent
            cost = Piece(piece.index, tokens=piece.tokens, prompt_tokens=piece.prompt_tokens, estimated=piece.estimated)
            cost.reused_tokens, cost.lost = piece.reused_tokens, piece.finish is not None
            self._put(cost)


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
