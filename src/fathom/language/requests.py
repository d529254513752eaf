"""The requests of a session while they run: each choice is put together, timed, watched and charged as it grows."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence

from fathom.budget import Lease
from fathom.language.charging import charge, cut_off
from fathom.language.choice import Choice
from fathom.language.confidence import Watch
from fathom.language.engines.base import Engine, Generation, Piece, Request
from fathom.language.speed import Clock, Mark, Observer
from fathom.language.timing import Timing
from fathom.reasoner import Floor

__all__ = ["Requests"]


class Requests:
    """Runs requests on an engine; what they show of its speed goes to ``timing``."""

    def __init__(self, engine: Engine, timing: Timing) -> None:
        self.engine = engine
        self.timing = timing
        self._running: dict[Generation, dict[int, int]] = {}  # the ids of its open choices, by their index
        self._clock = Clock(timing.pace)

    async def run(
        self,
        request: Request,
        ids: Sequence[int],
        leases: Sequence[Lease],
        role: str,
        enough: Callable[[str], bool] | None = None,
        floor: Floor | None = None,
        left: Callable[[Choice], None] | None = None,
    ) -> AsyncGenerator[tuple[int, Choice], None]:
        """Each choice is given back as it ends, with its index, and charged to its lease as it grows.

        One of which ``enough`` is there is ended, and so is one whose confidence falls under the ``floor``. ``ids``
        name the choices to ``stop``. Leaving early cancels what is open, and counts what it has cost; ``left`` is told
        of each.
        """
        choices = [Choice() for _ in range(request.n)]
        watches = [Watch(floor) for _ in choices] if floor is not None else None
        parameters = self.engine.traits.parameters
        observer = Observer(self.timing, self._tick(), request.stream)

        def take(piece: Piece) -> Choice:
            choice = choices[piece.index]
            choice.add(piece)
            charge(leases[piece.index], role, piece, seen=choice.tokens, parameters=parameters)
            return choice

        generation = self.engine.generate(request)
        async with generation:
            running = self._running[generation] = dict(enumerate(ids[: request.n]))
            try:
                async for piece in generation:
                    choice = take(piece)
                    self.timing.unread = 0
                    observer.saw(piece, self._tick())
                    if piece.finish is not None:
                        running.pop(piece.index, None)
                        yield piece.index, choice
                    elif enough is not None and enough("".join(choice.text)):
                        choice.complete = True
                        generation.cancel(piece.index)
                    elif watches is not None and watches[piece.index].fell(choice.top_logprobs):
                        choice.weak = True
                        generation.cancel(piece.index)
            finally:
                self._tick()
                del self._running[generation]
                if running:
                    await cut_off(generation, running, take)
                    if left is not None:
                        for index in running:
                            left(choices[index])

    def _tick(self) -> Mark:
        """Now, before what runs changes."""
        return self._clock.tick(time.monotonic(), sum(map(len, self._running.values())))

    def stop(self, ids: Collection[int] | None = None) -> None:
        """Cancel the choices of these ids, or all: what they have so far is given back at once."""
        for generation, open_choices in list(self._running.items()):
            for index, id in list(open_choices.items()):
                if ids is None or id in ids:
                    generation.cancel(index)
