"""Sampling a pool once: every question, every depth, greedy and drawn, through the ordinary session, driver and meter.

What has come in is kept at once, with what it cost; whatever is missing when a sweep begins again is drawn, each sample
with the seed that is its own, so that an interrupted sweep ends as an uninterrupted one would have (on an engine whose
text depends on the seed alone). Searches that steer generation cannot be played on a pool: they are run live, and their
outcomes kept.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Container, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from fathom.api import prepare_run, strategy_of
from fathom.budget import Budget, Meter
from fathom.errors import EngineError, FathomError, InputError, NoAnswer, PromptTooLong, UpstreamError, UsageError
from fathom.judges.base import Candidate, Timing, Verifier, bound, judge_needs, timing_of
from fathom.judges.registry import JUDGES
from fathom.lab.courses import at_depth
from fathom.lab.datasets import Dataset, Question, load_dataset
from fathom.lab.gather import Gather
from fathom.lab.identity import facts_of, terms_of
from fathom.lab.keeping import JUDGE, Keep, Keeping, judged, question_seed
from fathom.lab.progress import Progress
from fathom.lab.records import GREEDY, UNLIMITED, Course, Outcome, SweepInfo, Verdicts, Written
from fathom.lab.spending import total
from fathom.lab.store import Store
from fathom.reasoner import Capability, Reasoner
from fathom.records import Problem, Spent
from fathom.search.base import Terms
from fathom.search.driver import Driver
from fathom.team import in_form

__all__ = ["Job", "SweepOptions", "Sweeper", "keep", "open_sweep", "progress_of", "unjudged"]

MOST = 1000
"""Samples a question at most."""
SERVED_AT_A_TIME = 8
"""Questions that are put to a server side by side; a model in this process has one."""
HOPELESS = 3
"""Questions that fail before anything has succeeded, after which a sweep gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOptions:
    """What to draw: ``samples`` a question and the greedy one, at each of ``depths`` (None: the model's own limit).

    ``judges`` (specs) are asked for their verdict on each of them, ``live`` strategies (specs) are run on every
    question under ``budget``; ``parallel`` questions are under way at a time (0: one in process, several on a server).
    """

    samples: int = 16
    depths: tuple[int | None, ...] = (None,)
    seed: int = 0
    judges: tuple[str, ...] = ()
    live: tuple[str, ...] = ()
    budget: Budget = field(default_factory=Budget)
    parallel: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= MOST:
            raise UsageError(f"a sweep draws 1 to {MOST} samples a question, not {self.samples}")
        if self.parallel < 0:
            raise UsageError(f"at least one question is under way at a time, not {self.parallel}")
        for spec in self.judges:
            if timing_of(JUDGES.build(spec)) is Timing.TOGETHER:
                raise UsageError(f"{spec} compares attempts with one another: its word on one alone cannot be kept")
        for spec in self.live:
            strategy_of(spec)

    @property
    def wanted(self) -> tuple[int, ...]:
        """The samples of a question at each depth, the greedy one first."""
        return (GREEDY, *range(self.samples))

    @property
    def kept_depths(self) -> tuple[int, ...]:
        """The depths as they are kept."""
        return tuple(map(_kept, self.depths))

    @property
    def told_budget(self) -> str:
        """The budget of live runs as it is kept."""
        return ", ".join(f"{name}={value:g}" for name, value in self.budget.limits().items())


@dataclass(frozen=True, slots=True)
class Job:
    """What is swept, as every worker can read it: the model's URI and the dataset's name, not the things themselves."""

    uri: str
    dataset: str
    options: SweepOptions
    questions: int | None = None
    skip_bad: bool = False

    def load(self) -> Dataset:
        """The dataset. Raises what ``load_dataset`` raises."""
        return load_dataset(self.dataset, questions=self.questions, seed=self.options.seed, skip_bad=self.skip_bad)


@asynccontextmanager
async def open_sweep(
    model: Reasoner,
    uri: str,
    dataset: Dataset,
    directory: Path | str,
    name: str | None,
    options: SweepOptions,
    observe: Callable[[Progress], None] = lambda progress: None,
) -> AsyncIterator[Sweeper]:
    """A sweep in the store at ``directory``, begun or gone on with, ready to ``run``.

    ``name`` is what it is called there (default: the model and the dataset). ``uri`` is what the model was opened by.
    Raises what ``Store`` and ``Store.begin`` raise.
    """
    model = in_form(model, dataset.form)
    with Store(directory, write=True) as store:
        terms = terms_of(model, uri, dataset, options.seed)
        facts = await facts_of(model, uri, dataset.questions[0].prompt)
        sweep = store.begin(name or f"{model.name} on {dataset.name}", terms, dataset.asked(), facts)
        if not options.parallel:
            options = replace(options, parallel=1 if "pace" in facts else SERVED_AT_A_TIME)
        yield Sweeper(model, dataset, store, sweep, options, observe)


class Sweeper:
    """One sweep being filled. ``observe`` is told of progress whenever something was kept."""

    def __init__(
        self,
        model: Reasoner,
        dataset: Dataset,
        store: Store,
        sweep: SweepInfo,
        options: SweepOptions,
        observe: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.model = model
        self.dataset = dataset
        self.store = store
        self.sweep = sweep
        self.options = options
        self.observe = observe
        self.judges = {spec: JUDGES.build(spec) for spec in options.judges}
        wanted = {Capability.LOGPROBS}.union(*(judge_needs(judge) for judge in self.judges.values()))
        self.looks_at = frozenset(wanted & self.model.capabilities)
        self._succeeded = False
        self._outcomes = {(o.question, o.strategy, o.budget) for o in store.outcomes(sweep.id)}
        self.progress = progress_of(store, sweep.id, dataset, options)

    async def run(self, numbers: Sequence[int] | None = None) -> Progress:
        """Draw what is missing (of these questions, by default of all) and keep it as it comes.

        A question that fails is listed and left for the next time; when nothing else than failures came, the last one
        is raised. Cancelled, it keeps what has come in.
        """
        wanted = range(len(self.dataset.questions)) if numbers is None else numbers
        await self._judge_kept(frozenset(wanted))
        places = asyncio.Semaphore(self.options.parallel or 1)

        async def one(number: int) -> None:
            async with places:
                await self._question(number)

        try:
            async with asyncio.TaskGroup() as group:
                ticking = group.create_task(self._tick())
                work = [group.create_task(one(number)) for number in wanted]
                await asyncio.wait(work) if work else None
                ticking.cancel()
        except* FathomError as errors:
            raise _first(errors) from None
        finally:
            self.store.flush()
            if self.dataset.close is not None:
                await self.dataset.close()
        return self.progress

    async def _tick(self) -> None:
        """Commit what waits, also while nothing new comes in."""
        while True:
            await asyncio.sleep(self.store.patience)
            self.store.flush(only_if_due=True)

    async def _question(self, number: int) -> None:
        question = self.dataset.questions[number]
        try:
            for depth in sorted(self.options.depths, key=_reach, reverse=True):
                have = self.store.samples(self.sweep.id, number, _kept(depth))
                have |= await self._take(number, _kept(depth), {*self.options.wanted} - have)
                missing = tuple(s for s in self.options.wanted if s not in have)
                if missing:
                    await self._draw(number, question, depth, missing)
            for spec in self.options.live:
                if (number, spec, self.options.told_budget) not in self._outcomes:
                    await self._run_live(number, question, spec)
        except (EngineError, InputError, PromptTooLong) as error:
            self.progress.failed[question.name] = str(error)
            if not self._succeeded and len(self.progress.failed) >= HOPELESS:
                raise

    async def _take(self, number: int, depth: int, missing: set[int]) -> set[int]:
        """Those of the missing samples that deeper ones with their seeds have passed through: nothing is drawn."""
        courses = self.store.courses(self.sweep.id, question=number) if missing else ()
        known = {(c.depth, c.sample): c for c in courses if c.sample in missing and c.boards}
        found: dict[int, Written] = {}
        for whole in self.store.trajectories(self.sweep.id, question=number) if known else ():
            course = known.get((whole.depth, whole.sample))
            cut = None if course is None else at_depth(whole, course, depth)
            if cut is not None:
                found[cut.sample] = cut
        if found:
            self._keep(number, list(found.values()), ())
        for spec, judge in self.judges.items():
            for cut in found.values():
                await self._judge_one(spec, judge, cut)
        return set(found)

    # -- drawing ----------------------------------------------------------------------------------------------------

    async def _draw(self, number: int, question: Question, depth: int | None, missing: tuple[int, ...]) -> None:
        meter, problem = Meter(), Problem.of(question.prompt)
        search = Gather(missing, depth, self.looks_at).begin(Terms())
        seed = question_seed(self.options.seed, number)
        session = await self.model.open(problem, meter, seed=seed, wants=self.looks_at)
        keeping = Keeping(
            self.judges,
            self._keep_of(number),
            self.options.seed,
            number,
            question,
            _kept(depth),
            search,
            session,
            meter,
        )
        try:
            keeper = asyncio.create_task(keeping.run())
            try:
                await Driver(search, session, problem, meter, keeping.observe).run()
            finally:
                keeping.end()
                await keeper
        finally:
            await session.aclose()
            for what, spent in keeping.unaccounted():
                self.store.charge(self.sweep.id, number, what, spent)
        if search.errors:
            self.progress.failed[question.name] = "; ".join(search.errors[:3])
        if search.errors and not search.settled:
            raise UpstreamError(f"no sample of question {question.name} came back: {'; '.join(search.errors[:3])}")

    def _keep_of(self, number: int) -> Keep:
        return lambda items, charges: self._keep(number, items, charges)

    def _keep(
        self, number: int, items: Sequence[Written | Course | Verdicts | Outcome], charges: Sequence[tuple[str, Spent]]
    ) -> None:
        """Keep what came in of a question, and what was spent since the last time."""
        self._succeeded = True
        keep(self.store, self.sweep.id, self.progress, items, [(number, what, spent) for what, spent in charges])
        self.observe(self.progress)

    async def _judge_kept(self, numbers: frozenset[int]) -> None:
        """Have those of these questions judged that were kept before, where a judge was named since."""
        for spec, judge in self.judges.items():
            needs, told = judge_needs(judge), {}
            if Capability.LOGPROBS in needs:
                told = {(c.question, c.depth, c.sample): c.logprobs for c in self.store.courses(self.sweep.id)}
            for t in unjudged(self.store, self.sweep.id, spec, numbers):
                logprobs = told.get((t.question, t.depth, t.sample), ())
                if Capability.TOP_LOGPROBS in needs or (Capability.LOGPROBS in needs and not logprobs):
                    if t.sample == GREEDY:  # sweeps of older versions had only their samples judged
                        continue
                    raise UsageError(
                        f"{spec} looks at log-probabilities that are not kept: name it when a sweep begins"
                    )
                await self._judge_one(spec, judge, t, logprobs)

    async def _judge_one(self, spec: str, judge: Verifier, t: Written, logprobs: tuple[float, ...] = ()) -> None:
        meter, prompt = Meter(), self.dataset.questions[t.question].prompt
        session = await self.model.open(Problem.of(prompt), meter)
        try:
            candidate = Candidate(t.text, t.answer, t.finished, logprobs, value=t.value, valid=t.valid)
            verdict, spent = await judged(bound(judge, meter, session), meter, prompt, candidate)
        except BaseException:
            self.store.charge(self.sweep.id, t.question, JUDGE, meter.spent)
            raise
        finally:
            await session.aclose()
        said = Verdicts(t.question, t.depth, t.sample, spec, verdict.score, verdict.passed, verdict.detail[:500], spent)
        self._keep(t.question, [said], [(JUDGE, meter.spent)])

    # -- live ---------------------------------------------------------------------------------------------------------

    async def _run_live(self, number: int, question: Question, spec: str) -> None:
        meter = Meter(self.options.budget)
        run = await prepare_run(
            self.model,
            question.prompt,
            strategy=spec,
            budget=meter,
            seed=question_seed(self.options.seed, number),
        )
        try:
            receipt = (await run.finish()).receipt
            score = await question.score(receipt.answer)
        except NoAnswer as error:
            if error.receipt is None:
                raise
            receipt, score = error.receipt, 0.0
        except BaseException:
            self.store.charge(self.sweep.id, number, spec, meter.spent)
            raise
        spent = {name: getattr(receipt.spent, name) for name in Spent.__slots__}
        spent["tokens_by_role"] = dict(receipt.spent.tokens_by_role)
        outcome = Outcome(
            number,
            spec,
            self.options.told_budget,
            receipt.answer,
            score,
            receipt.confidence,
            str(receipt.stopped),
            spent,
        )
        self._keep(number, [outcome], [(spec, meter.spent)])


def progress_of(store: Store, sweep: int, dataset: Dataset, options: SweepOptions) -> Progress:
    """How far a sweep is, from what its store has."""
    count, counts = len(dataset.questions), store.counts(sweep)
    done = sum(
        min(len(options.wanted), counts.get((number, depth), 0))
        for number in range(count)
        for depth in options.kept_depths
    )
    done += sum(o.strategy in options.live and o.budget == options.told_budget for o in store.outcomes(sweep))
    whole = count * (len(options.wanted) * len(options.depths) + len(options.live))
    return Progress(whole, done, spent=store.spent(sweep))


def unjudged(store: Store, sweep: int, judge: str, numbers: Container[int]) -> list[Written]:
    """The samples of these questions, greedy ones too, that are kept without a word of this judge."""
    known = {(v.question, v.depth, v.sample) for v in store.verdicts(sweep) if v.judge == judge}
    return [
        t for t in store.trajectories(sweep) if t.question in numbers and (t.question, t.depth, t.sample) not in known
    ]


def keep(
    store: Store,
    sweep: int,
    progress: Progress,
    items: Sequence[Written | Course | Verdicts | Outcome],
    charges: Sequence[tuple[int, str, Spent]],
) -> None:
    """Keep what came in with what it cost (by question, and what for), and tell the progress."""
    for question, what, spent in charges:
        store.charge(sweep, question, what, spent)
        progress.spent = total(progress.spent, spent)
    store.add(sweep, items)
    new = sum(isinstance(item, Written | Outcome) for item in items)
    progress.done += new
    progress.drawn += new


def _kept(depth: int | None) -> int:
    return UNLIMITED if depth is None else depth


def _reach(depth: int | None) -> float:
    return math.inf if depth is None else depth


def _first(errors: BaseExceptionGroup[FathomError]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
