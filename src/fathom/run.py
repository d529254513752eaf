"""One run: a model, a problem, a strategy and a budget brought together, observed, stopped, and accounted for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from fathom.budget import Budget, Meter
from fathom.errors import CapabilityError, LimitError, NoAnswer, UpstreamError
from fathom.reasoner import Capability, Reasoner
from fathom.records import Problem, Receipt, Result, StopReason, Trajectory, Update
from fathom.search.base import Search, Standing, Strategy, Terms
from fathom.search.driver import Driver

__all__ = ["Run"]


class Run:
    """A single use of a strategy. The clock of its budget starts when it is made.

    >>> run = Run(model, Problem.of("What is 6 times 7?"), strategy, Budget(seconds=2))
    >>> result = await run.finish()

    ``stop`` ends it, from anywhere on the same loop, with the best answer so far; cancelling ``finish`` cancels
    everything below it, and ``result`` still tells what there was and what it cost.
    """

    def __init__(
        self,
        model: Reasoner,
        problem: Problem,
        strategy: Strategy,
        budget: Budget | Meter | None = None,
        *,
        seed: int = 0,
        owned: Sequence[Reasoner] = (),
    ) -> None:
        self.meter = budget if isinstance(budget, Meter) else Meter(budget)
        self.model = model
        self.problem = problem
        self.strategy = strategy
        self.label = str(strategy)
        self.seed = seed
        self._owned = owned  # models that were opened for this run alone
        self.search: Search = self._begin()
        self._driver: Driver | None = None
        self._stopped: StopReason | None = None

    def _begin(self) -> Search:
        needed = self.strategy.required | ({Capability.TOOLS} if self.problem.tools else frozenset())
        missing = needed - self.model.capabilities
        if missing:
            what = ", ".join(sorted(missing))
            raise CapabilityError(
                f"{self.label} needs {what}, which {self.model.name} does not offer; "
                f"`fathom models` tells which models do"
            )
        limits = self.meter.limits
        most = self.model.max_width
        if most is not None and limits.get("width", 1) > most:
            raise LimitError(
                "width", f"a width of {limits['width']:g} is more than the {most} that {self.model.name} runs"
            )
        width, depth = limits.get("width"), limits.get("depth")
        return self.strategy.begin(
            Terms(
                width=None if width is None else int(width),
                depth=None if depth is None else int(depth),
                max_width=most,
                seed=self.seed,
            )
        )

    async def finish(self, observe: Callable[[], None] | None = None) -> Result:
        """Run to the end. ``observe`` is called whenever something came in.

        Raises NoAnswer where the budget ended before there was any answer, UpstreamError where every sample failed.
        """
        try:
            session = await self.model.open(self.problem, self.meter, seed=self.seed, wants=self.strategy.wants)
            try:
                self.search.brief(self.strategy.scout(session, self.meter))
                self._driver = Driver(self.search, session, self.problem, self.meter, observe)
                self._stopped = await self._driver.run()
                self.strategy.review(self.search)
            finally:
                await session.aclose()
        finally:
            for model in self._owned:
                await model.aclose()
        return self._conclusion()

    def stop(self) -> None:
        """End now with the best answer so far. Does nothing before the start and after the end."""
        if self._driver is not None:
            self._driver.stop(StopReason.CANCELLED)

    def _conclusion(self) -> Result:
        standing = self._standing
        result, best = self._result(standing), self._best(standing)
        refuted = best is not None and best.valid is False  # even the best is one that the model knows to be wrong
        if (result.receipt.candidates or result.answer) and not refuted:
            return result
        if self.search.errors:
            raise UpstreamError(f"no sample came back. {self.model.name}: {'; '.join(self.search.errors[:3])}")
        if refuted:
            raise NoAnswer(f"{result.receipt.notes[-1]}; it may have none, or need more width or depth", result.receipt)
        raise NoAnswer(
            f"the budget ended ({result.receipt.stopped}) before there was any answer, after "
            f"{self.meter.elapsed:.2f} s and {result.receipt.spent.tokens} tokens; allow more",
            result.receipt,
        )

    def _best(self, standing: Standing) -> Trajectory | None:
        return self.search.trajectories.get(standing.best) if standing.best is not None else None

    @property
    def _standing(self) -> Standing:
        """The search's standing and what the model itself knows of it: an answer known to be wrong is none."""
        standing = self.search.standing
        best = self._best(standing)
        if best is None or best.valid is None:
            return standing
        if best.valid:
            return replace(standing, valid=standing.valid is not False)
        tried = sum(t.answer is not None for t in self.search.trajectories.values())
        note = f"none found: each of {tried} answers breaks a constraint of the puzzle"
        return replace(standing, answer=None, confidence=0.0, valid=False, notes=(*standing.notes, note))

    @property
    def result(self) -> Result:
        """The result as it stands now, also after cancellation."""
        return self._result(self._standing)

    def _result(self, standing: Standing) -> Result:
        receipt = Receipt(
            answer=standing.answer or "",
            confidence=standing.confidence,
            stopped=self._stopped or StopReason.CANCELLED,
            strategy=f"{self.label}: {self.search.ran}" if self.search.ran else self.label,
            model=self.model.name,
            candidates=standing.candidates,
            spent=self.meter.spent,
            limits=self.meter.limits,
            seed=self.seed,
            notes=standing.notes,
            valid=standing.valid,
        )
        best = self._best(standing)
        return Result(
            answer=receipt.answer,
            confidence=receipt.confidence,
            receipt=receipt,
            text=best.text if best else "",
            trajectories=tuple(self.search.trajectories.values()),
            best=best,
        )

    @property
    def update(self) -> Update:
        """The standing now, for showing."""
        standing = self._standing
        return Update(
            answer=standing.answer,
            confidence=standing.confidence,
            candidates=standing.candidates,
            spent=self.meter.spent,
            running=self.growing,
        )

    @property
    def growing(self) -> int:
        """How many trajectories are growing now."""
        return self._driver.growing if self._driver else 0

    async def updates(self, every: float | None = None) -> AsyncGenerator[Update, None]:
        """Run, giving an update whenever the standing may have changed, and every so many seconds where asked.

        The last update has ``final`` set. Leaving early cancels the run.
        """
        changed = asyncio.Event()
        task = asyncio.create_task(self.finish(changed.set))
        task.add_done_callback(lambda _: changed.set())
        try:
            while not task.done():
                try:
                    async with asyncio.timeout(every):
                        await changed.wait()
                except TimeoutError:
                    pass
                changed.clear()
                if not task.done():
                    yield self.update
            result = await task
            yield Update(
                result.answer, result.confidence, result.receipt.candidates, result.receipt.spent, final=result
            )
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def better(self) -> AsyncGenerator[Update, None]:
        """Run, giving each better standing as it comes; the last one has ``final``. Leaving early cancels the run."""
        last: tuple[object, ...] | None = None
        async with aclosing(self.updates()) as updates:
            async for update in updates:
                seen = (update.answer, update.confidence)
                if update.final is not None or (update.answer is not None and seen != last):
                    last = seen
                    yield update
