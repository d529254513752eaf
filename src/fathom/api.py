"""The front door: open a model, solve a problem within a budget, or watch the answer firm up."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import reduce
from operator import or_
from typing import Any

from fathom import portal
from fathom.budget import Budget, Meter
from fathom.errors import UsageError
from fathom.judges.registry import make_judge
from fathom.judges.value import Value
from fathom.language.model import LanguageModel
from fathom.models import open_model
from fathom.reasoner import Capability, Reasoner
from fathom.records import Message, Problem, Result, Update
from fathom.run import Run
from fathom.search import STRATEGIES, Strategy
from fathom.specs import parse_pipeline
from fathom.team import Team, in_form

__all__ = ["asolve", "open", "prepare_run", "solve", "stream"]

Prompt = str | Problem | Iterable[Message | Mapping[str, Any]]

DEFAULT_STRATEGY = "auto"


def open(uri: str = "embedded", **options: Any) -> Reasoner:
    """Open a model by name or URI, see ``fathom models``; ready to answer when this returns.

    ``options`` go to the kind of model, e.g. ``form="code"`` or ``api_key=…``. Raises UnknownModel, MissingDependency,
    DownloadError, ModelFileError.
    """
    STRATEGIES.load()  # so that the first answer does not wait for it
    return portal.call(open_model(uri, **options))


def strategy_of(strategy: str | Strategy | None, verify: Any = None, model: Reasoner | None = None) -> Strategy:
    """The strategy that a spec string names, or the pipeline of them (``a | b``).

    A verifier given apart goes into it. Where no judge is named, a model that has a word of its own on its answers, a
    value head or the constraints of a puzzle, is asked for that; by default only where it knows what is right.
    """
    judge = make_judge(verify)
    offers = model.capabilities if model is not None else frozenset()
    if strategy in (None, DEFAULT_STRATEGY) and Capability.VALID not in offers:
        offers = frozenset()
    if strategy is None:
        strategy = DEFAULT_STRATEGY
    if isinstance(strategy, str):
        strategy = reduce(or_, map(STRATEGIES.build, parse_pipeline(strategy)))
    if judge is not None:
        return strategy.judged_by(judge)
    return strategy.judged_by_default(Value()) if Capability.VALUE in offers else strategy


async def prepare_run(
    model: Reasoner,
    prompt: Prompt,
    *,
    strategy: str | Strategy | None = None,
    within: str | float | None = None,
    budget: Budget | Meter | None = None,
    verify: Any = None,
    seed: int = 0,
) -> Run:
    """Check all that can be checked before anything is spent. The clock starts when this returns.

    Further models that the strategy names are opened first, and closed again when the run ends, or cannot begin.
    """
    if within is not None:
        if budget is not None:
            raise UsageError("give either within or budget; a budget has its deadline in seconds")
        budget = Budget(seconds=within)
    problem, found = Problem.of(prompt), strategy_of(strategy, verify, model)
    form = getattr(getattr(found, "judge", None), "form", None)
    if form is not None:
        model = in_form(model, form)
    options: dict[str, Any] = {"form": model.form} if isinstance(model, LanguageModel) else {}
    async with AsyncExitStack() as opened:  # what is open when something is refused is closed again
        further: list[Reasoner] = []
        for uri in getattr(found, "models", ()):
            further.append(await open_model(uri, **options))
            opened.push_async_callback(further[-1].aclose)
        run = Run(Team((model, *further)) if further else model, problem, found, budget, seed=seed, owned=further)
        opened.pop_all()
    return run


async def asolve(model: Reasoner | str, prompt: Prompt, **options: Any) -> Result:
    """The asynchronous twin of ``solve``. Cancelling it cancels everything that it started.

    A model that is only named is opened for this run alone.
    """
    async with _opened(model) as reasoner:
        return await (await prepare_run(reasoner, prompt, **options)).finish()


def solve(model: Reasoner | str, prompt: Prompt, **options: Any) -> Result:
    """Answer a prompt, or a list of chat messages, as well as the budget allows.

    ``strategy`` is a name, a spec such as ``"best-of-n(width=16, judge=tests)"``, or a strategy object; ``within`` a
    deadline such as ``"2s"``, or else ``budget`` a Budget; ``verify`` a verifier that decides when an answer is right;
    ``seed`` makes sampling repeatable where the engine allows it.

    Raises UsageError (and its kinds) for what makes no sense, NoAnswer where the budget ended before any answer, and
    EngineError where the model could not be run. Interrupted by Ctrl-C it cancels everything and raises.
    """
    return portal.call(asolve(model, prompt, **options))


async def stream(model: Reasoner | str, prompt: Prompt, **options: Any) -> AsyncGenerator[Update, None]:
    """Solve, giving each better standing as it comes; the last update has ``final``, the result."""
    async with _opened(model) as reasoner:
        run = await prepare_run(reasoner, prompt, **options)
        async with aclosing(run.better()) as updates:
            async for update in updates:
                yield update


@asynccontextmanager
async def _opened(model: Reasoner | str) -> AsyncGenerator[Reasoner, None]:
    """The model; one that is only named is opened, and closed again."""
    if not isinstance(model, str):
        yield model
        return
    reasoner = await open_model(model)
    try:
        yield reasoner
    finally:
        await reasoner.aclose()
