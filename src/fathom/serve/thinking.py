"""The thoughtful answer: a search over many trajectories, which stands at a best answer from its first one on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager

from fathom.api import prepare_run
from fathom.budget import Meter
from fathom.errors import UsageError
from fathom.language.prompts import visible
from fathom.reasoner import Reasoner
from fathom.records import Problem, Result, Trajectory, Update
from fathom.run import Run
from fathom.serve.asking import Ask
from fathom.serve.gateway import Gateway
from fathom.serve.wire import Report, Usage

__all__ = ["content_of", "counted", "in_words", "prepare", "ranked", "report_of", "think", "usage_of", "watch"]


async def prepare(ask: Ask, meter: Meter, seen_as: Callable[[Reasoner, int], Reasoner] | None = None) -> Run:
    """The run that answers; it is checked whole, and nothing is spent yet.

    ``seen_as`` may put something in front of the model, given it and the seed.
    """
    seed = random.getrandbits(31) if ask.seed is None else ask.seed
    if not 0 <= seed < 2**62:
        raise UsageError("a seed lies between 0 and 2**62")
    model = ask.served.thinking(ask.form, ask.sampling)
    if seen_as is not None:
        model = seen_as(model, seed)
    return await prepare_run(model, Problem.of(ask.messages, ask.tools), strategy=ask.strategy, budget=meter, seed=seed)


async def think(run: Run, gateway: Gateway) -> Result:
    """Run to the end, but see ``counted``."""
    with counted(run, gateway):
        return await run.finish()


async def watch(run: Run, gateway: Gateway) -> AsyncGenerator[Update, None]:
    """The same, with every better standing as it comes; the last one has ``final``."""
    with counted(run, gateway):
        async with aclosing(run.better()) as updates:
            async for update in updates:
                yield update


@contextmanager
def counted(run: Run, gateway: Gateway) -> Iterator[None]:
    """A run of the gateway's. When it has lasted as long as any request may, its best so far is the answer."""
    left = max(0.0, gateway.config.limits.seconds - run.meter.elapsed)
    timer = asyncio.get_running_loop().call_later(left, run.stop)
    gateway.runs.add(run)
    try:
        yield
    finally:
        gateway.runs.discard(run)
        timer.cancel()


def in_words(update: Update) -> str:
    """How a search stands, in one line for people."""
    votes = sum(candidate.votes for candidate in update.candidates)
    leading = update.candidates[0].votes if update.candidates else 0
    answer = " ".join((update.answer or "").split())
    answer = answer if len(answer) <= 60 else answer[:59] + "…"
    return f"{leading:g} of {votes:g} for {answer} ({update.confidence:.0%} sure), {update.running} thinking\n"


def content_of(result: Result) -> str:
    """What a chat client is shown: the whole text of the answer's trajectory, its thinking left out."""
    return visible(result.text) or result.answer


def ranked(result: Result, n: int) -> list[Trajectory]:
    """The ``n`` best trajectories at most: one for each answer, in the order of the answers, and then others of them.

    The first is the one that the answer came from.
    """
    best = result.best or Trajectory(-1, text=result.text, answer=result.answer, finished=True)
    if n == 1:
        return [best]
    keys = {t.answer: t.key for t in result.trajectories if t.answer is not None}
    order: dict[str, int] = {}
    for place, candidate in enumerate(result.receipt.candidates):
        order.setdefault(keys.get(candidate.answer, ""), place)
    others = [t for t in result.trajectories if t is not best and t.answer is not None and t.key in order]
    seen = {best.key}
    places: list[tuple[bool, int, int, Trajectory]] = []
    for t in sorted(others, key=lambda t: (not t.finished, t.id)):
        places.append((t.key in seen, order[t.key], len(places), t))
        seen.add(t.key)
    return [best, *(t for *_, t in sorted(places, key=lambda place: place[:3]))][:n]


def usage_of(result: Result, shown: Sequence[Trajectory]) -> Usage:
    """All that was spent, in OpenAI's terms, of which the depth of what is shown was no reasoning."""
    spent = result.receipt.spent
    return Usage.of(spent.prompt_tokens, spent.reused_tokens, spent.tokens, sum(t.depth for t in shown))


def report_of(result: Result, ask: Ask) -> Report:
    """The receipt, without what a client need not know of the upstream."""
    report = Report.of(result.receipt)
    report.model = ask.served.id
    if ask.schema is not None and result.best is not None:
        report.valid = result.best.parsed
    if report.notes and ask.served.masks:
        report.notes = tuple(_masked(note, ask.served.masks) for note in report.notes)
    return report


def _masked(text: str, masks: Mapping[str, str]) -> str:
    for secret, shown in masks.items():
        text = text.replace(secret, shown)
    return text
