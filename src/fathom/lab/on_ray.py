"""A sweep on a Ray cluster: workers hold the model and draw, and one process, this one, writes what they send.

Each worker is an actor with a model of its own and draws one question at a time, each sample with the seed that is its
own, wherever it is drawn. A worker that is lost loses at most what it had not sent yet: the question goes to another
one, which is told what the store already has, so nothing is drawn twice and nothing is missing. Ray's own restarts and
retries are not used, for only the store knows what is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fathom.errors import EngineError, FathomError, MissingDependency, UsageError
from fathom.lab.datasets import Dataset
from fathom.lab.identity import facts_of, terms_of
from fathom.lab.progress import Progress
from fathom.lab.records import GREEDY, Course, Outcome, SweepInfo, Terms, Verdicts, Written
from fathom.lab.store import Store
from fathom.lab.sweep import Job, Sweeper, keep, progress_of, unjudged
from fathom.models import open_model
from fathom.reasoner import Reasoner
from fathom.records import Spent
from fathom.team import in_form

__all__ = ["Assignment", "Job", "Worker", "sweep_on_ray"]

PLACE = 120.0
"""Seconds that a sweep waits for the cluster to start any worker at all, the model's loading included."""
FAREWELL = 5.0
"""Seconds that workers have to close their models."""
MOST_LOST = 3
"""Workers that one question may lose before it is left for the next time: it may be what ends them."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A question to be drawn, and what is there of it already: samples by depth, and the live runs that are done."""

    number: int
    samples: Mapping[int, frozenset[int]]
    outcomes: tuple[Outcome, ...] = ()


@dataclass(frozen=True, slots=True)
class Sent:
    """What a worker sends since it was last asked. ``done`` says that the question is over, ``failed`` what went
    wrong."""

    items: tuple[Written | Course | Verdicts | Outcome, ...]
    charges: tuple[tuple[int, str, Spent], ...]
    done: bool
    failed: str = ""


class Outbox(Store):
    """The store that a worker's sweeper sees: it holds what the assignment says, and what is written leaves by the
    post."""

    def __init__(self, directory: Path | str) -> None:
        super().__init__(directory, write=True)
        self.assignment = Assignment(0, {})
        self.posted: list[Written | Course | Verdicts | Outcome] = []
        self.charged: list[tuple[int, str, Spent]] = []
        self.news = asyncio.Event()

    def samples(self, sweep: int, question: int, depth: int) -> set[int]:
        return set(self.assignment.samples.get(depth, ()))

    def outcomes(self, sweep: int) -> Iterable[Outcome]:  # type: ignore[override]
        return self.assignment.outcomes

    def add(self, sweep: int, items: Iterable[Written | Course | Verdicts | Outcome]) -> None:
        self.posted += items
        self.news.set()

    def charge(self, sweep: int, question: int, what: str, spent: Spent) -> None:
        self.charged.append((question, what, spent))

    def empty(self) -> tuple[tuple[Written | Course | Verdicts | Outcome, ...], tuple[tuple[int, str, Spent], ...]]:
        """All that waits to be sent, charged with what it cost."""
        self.news.clear()
        items, charges = tuple(self.posted), tuple(self.charged)
        self.posted, self.charged = [], []
        return items, charges


class Worker:
    """An actor: a model, and the question that is being drawn. Ray calls its methods side by side on one loop."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._directory = tempfile.TemporaryDirectory(prefix="fathom-")
        self._outbox = Outbox(self._directory.name)
        self._work: asyncio.Task[str] | None = None
        self._model: Reasoner | None = None

    async def prepare(self) -> tuple[Terms, dict[str, Any]]:
        """Open the model and the dataset; say what the sweep is made under, and what is known of the model."""
        self._dataset = self.job.load()
        self._model = model = in_form(await open_model(self.job.uri), self._dataset.form)
        terms = terms_of(model, self.job.uri, self._dataset, self.job.options.seed)
        self._sweep = SweepInfo(0, "", terms, {})
        return terms, await facts_of(model, self.job.uri, self._dataset.questions[0].prompt)

    async def begin(self, assignment: Assignment) -> None:
        """Begin to draw what is missing of a question."""
        self._outbox.assignment = assignment
        self._work = asyncio.create_task(self._draw(assignment.number))
        self._work.add_done_callback(lambda task: self._outbox.news.set())

    async def _draw(self, number: int) -> str:
        assert self._model is not None, "the worker was prepared"
        sweeper = Sweeper(self._model, self._dataset, self._outbox, self._sweep, self.job.options)
        try:
            failed = (await sweeper.run([number])).failed
        except EngineError as error:
            return str(error)
        return "; ".join(failed.values())

    async def collect(self) -> Sent:
        """What came in since this was last asked; it waits until there is something."""
        assert self._work is not None, "a question was begun"
        await self._outbox.news.wait()
        done = self._work.done()
        items, charges = self._outbox.empty()
        return Sent(items, charges, done, self._work.result() if done else "")

    async def close(self) -> None:
        """Give back what the worker holds, the question that it draws included."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
        if self._model is not None:
            await self._model.aclose()
        self._outbox.close()
        self._directory.cleanup()


async def sweep_on_ray(
    job: Job,
    directory: Path | str,
    name: str | None = None,
    *,
    address: str | None = None,
    workers: int | None = None,
    observe: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Draw what is missing of a sweep on the cluster at ``address``, and keep it in the store at ``directory``.

    ``address`` is ``ray://HOST:10001``, ``HOST:6379``, or None: the cluster that ``RAY_ADDRESS`` names or that this
    process is connected to already, else one on this machine alone. There are ``workers`` (default: one a node), each
    on a CPU of its own, and on a GPU where the cluster has some and the model runs in process. Model files and datasets
    that are files lie at the same path on every node.

    Raises MissingDependency without Ray, FathomError where the cluster cannot be reached or all workers are lost,
    UsageError for a judge that was named since samples were kept, and what ``Store.begin`` raises.
    """
    dataset = job.load()
    with _cluster(address) as ray, Store(directory, write=True) as store:
        crew = _Crew(ray, job, workers or max(1, sum(node["Alive"] for node in ray.nodes())))
        try:
            terms, facts = await crew.prepared()
            sweep = store.begin(name or f"{terms.model} on {dataset.name}", terms, dataset.asked(), facts)
            for judge in job.options.judges:
                if any(t.sample != GREEDY for t in unjudged(store, sweep.id, judge, range(len(dataset.questions)))):
                    raise UsageError(
                        f"{judge} was named after samples were kept, and workers judge what they draw: have those "
                        f"judged first, by the same command without --on"
                    )
            run = _Run(job, dataset, store, sweep, crew, observe)
            return await run.run()
        finally:
            await crew.dismiss()


@contextlib.contextmanager
def _cluster(address: str | None) -> Any:
    """Ray, connected; a connection that was there already is used, and left."""
    try:
        import ray
    except ImportError:
        raise MissingDependency("ray", "ray", "a sweep on a cluster") from None
    mine = not ray.is_initialized()
    if mine:
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise FathomError(f"cannot reach the Ray cluster at {address or 'RAY_ADDRESS'}: {error}") from None
    try:
        yield ray
    finally:
        if mine:
            ray.shutdown()


class _Crew:
    """The workers. One that is lost is replaced, where the cluster still has a place for it."""

    def __init__(self, ray: Any, job: Job, size: int) -> None:
        self.ray, self.job, self.size = ray, job, size
        gpu = "GPU" in ray.cluster_resources() and not job.uri.startswith("openai:")
        # every method of an async actor may run beside the others: collect() waits while begin() is called
        self._actor = ray.remote(Worker).options(
            num_cpus=1, num_gpus=int(gpu), scheduling_strategy="SPREAD", max_restarts=0, max_concurrency=4
        )
        self.idle: list[Any] = []
        self.all: list[Any] = []

    def hire(self) -> Any:
        worker = self._actor.remote(self.job)
        self.all.append(worker)
        return worker

    async def prepared(self) -> tuple[Terms, dict[str, Any]]:
        """What the first worker says the sweep is made under."""
        worker = self.hire()
        try:
            found: tuple[Terms, dict[str, Any]] = await worker.prepare.remote()
        except self.ray.exceptions.RayTaskError as error:
            raise _said(error) from None
        except self.ray.exceptions.RayError as error:
            raise EngineError(f"no worker could be started: {error}") from None
        self.idle.append(worker)
        return found

    async def next(self, terms: Terms, wanted: Callable[[], bool]) -> Any:
        """A worker that is ready; None where no place was found for one while it was ``wanted``.

        Raises UsageError where it has another model or engine than the others.
        """
        if self.idle:
            return self.idle.pop()
        worker = self.hire()
        preparing = asyncio.ensure_future(worker.prepare.remote())
        while not preparing.done():
            await asyncio.wait([preparing], timeout=0.2)
            if not preparing.done() and not wanted():
                preparing.cancel()
                return None
        found, _ = preparing.result()
        if found != terms:
            raise UsageError(f"a node of the cluster has another model or engine: {found} there, {terms} here")
        return worker

    async def dismiss(self) -> None:
        """Let them clear up, for a moment; those that are lost or were never placed do not answer."""
        farewells = [asyncio.ensure_future(worker.close.remote()) for worker in self.all]
        if farewells:
            await asyncio.wait(farewells, timeout=FAREWELL)
        for worker, farewell in zip(self.all, farewells, strict=True):
            if farewell.done() and not farewell.cancelled():
                farewell.exception()  # looked at, so that nobody reports it
            farewell.cancel()
            self.ray.kill(worker)


class _Run:
    """The sweep, seen from the one who writes."""

    def __init__(
        self,
        job: Job,
        dataset: Dataset,
        store: Store,
        sweep: SweepInfo,
        crew: _Crew,
        observe: Callable[[Progress], None],
    ) -> None:
        self.job, self.dataset, self.store, self.sweep = job, dataset, store, sweep
        self.crew, self.observe = crew, observe
        self.progress = progress_of(store, sweep.id, dataset, job.options)
        self._waiting = deque(range(len(dataset.questions)))
        self._lost: dict[int, int] = {}
        self._working = 0

    async def run(self) -> Progress:
        """Until nothing is left that can be done."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.crew.size, len(self._waiting))):
                    group.create_task(self._serve())
        except* FathomError as errors:
            raise errors.exceptions[0] from None
        finally:
            self.store.flush()
        return self.progress

    async def _serve(self) -> None:
        """One worker's place: question after question; where the worker is lost, with another one."""
        errors = self.crew.ray.exceptions
        worker: Any = None
        since = time.monotonic()
        while self._waiting:
            number: int | None = None
            try:
                worker = worker or await self.crew.next(self.sweep.terms, partial(self._wants_another, since))
                if worker is None:
                    return
                if not self._waiting or (assignment := self._assignment(number := self._waiting.popleft())) is None:
                    continue
                self._working += 1
                try:
                    await self._question(worker, assignment)
                finally:
                    self._working -= 1
            except errors.RayTaskError as error:
                raise _said(error) from None
            except errors.RayError as error:  # of a worker that is lost, or out of reach
                worker, since = None, time.monotonic()
                self._give_back(number, error)
        if worker is not None:
            self.crew.idle.append(worker)

    def _wants_another(self, since: float) -> bool:
        """Whether to go on waiting for a place. Raises FathomError where nobody works and there has long been none."""
        if not self._working and time.monotonic() - since > PLACE:
            raise FathomError(f"the cluster had no place for a worker within {PLACE:g} s; what came in is kept")
        return bool(self._waiting)

    def _give_back(self, number: int | None, error: BaseException) -> None:
        """A worker was lost, with the question that it had."""
        if number is None:
            return
        self._lost[number] = self._lost.get(number, 0) + 1
        if self._lost[number] < MOST_LOST:
            self._waiting.appendleft(number)
        else:
            self.progress.failed[self.dataset.questions[number].name] = f"{MOST_LOST} workers were lost on it: {error}"

    async def _question(self, worker: Any, assignment: Assignment) -> None:
        await worker.begin.remote(assignment)
        done = False
        while not done:
            sent: Sent = await worker.collect.remote()
            keep(self.store, self.sweep.id, self.progress, sent.items, sent.charges)
            self.observe(self.progress)
            if sent.failed:
                self.progress.failed[self.dataset.questions[assignment.number].name] = sent.failed
            done = sent.done

    def _assignment(self, number: int) -> Assignment | None:
        """What there is of a question; None where nothing is missing."""
        options = self.job.options
        have = {depth: frozenset(self.store.samples(self.sweep.id, number, depth)) for depth in options.kept_depths}
        outcomes = tuple(o for o in self.store.outcomes(self.sweep.id) if o.question == number) if options.live else ()
        ran = {o.strategy for o in outcomes if o.budget == options.told_budget}
        if ran.issuperset(options.live) and all(found.issuperset(options.wanted) for found in have.values()):
            return None
        return Assignment(number, have, outcomes)


def _said(error: Any) -> BaseException:
    """The error that a worker raised, where it is one of ours."""
    cause: BaseException | None = getattr(error, "cause", None)
    if isinstance(cause, FathomError):
        return cause
    return EngineError(f"a worker failed: {str(cause or error).strip().splitlines()[-1]}")
