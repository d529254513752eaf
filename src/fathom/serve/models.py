"""The models that a gateway serves: opened once when it starts, shared by all requests, one engine for each."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from fathom import tracing
from fathom.answers import warm_up
from fathom.errors import UpstreamError, UsageError, one_of
from fathom.language.engines.base import Price, Sampling
from fathom.language.engines.hedged import HedgedEngine
from fathom.language.engines.openai import OpenAIEngine, engine_of
from fathom.language.engines.traced import TracedEngine
from fathom.language.model import LanguageModel, drawn
from fathom.models import named_model, open_model
from fathom.planning.ladder import Ladder, rungs
from fathom.planning.profile import Fitted
from fathom.reasoner import Reasoner
from fathom.serve.breaker import Breaker, GuardedEngine
from fathom.serve.config import EffortEntry, ModelEntry
from fathom.serve.efforts import EFFORTS, by_curve, profile_of, told
from fathom.serve.refusal import Refused
from fathom.serve.wire import Effort, ModelCard
from fathom.team import in_form, members_of, varied
from fathom.uris import ModelURI

__all__ = ["Behind", "Served", "choose", "open_served", "opening_order", "overlaid"]

_UNSAID = Sampling()

LOG = logging.getLogger("fathom.serve")


class Behind:
    """A language model behind a served one, with what hedges, guards and traces its engine in front of it.

    ``drawn`` is how its tokens are, as far as the ``options`` of its URI say anything of it; ``masks`` are words of its
    errors that clients need not see.
    """

    def __init__(self, model: LanguageModel, options: Mapping[str, Any], hedge: float) -> None:
        self.model = model
        self.breaker = Breaker(model.name)
        self.drawn = drawn(dict(options), _UNSAID)
        self.masks: dict[str, str] = {}
        self.hedging: HedgedEngine | None = None
        engine, provider = model.engine, "fathom"
        if isinstance(engine, OpenAIEngine):
            self.masks[engine.upstream.name] = f"the upstream of {model.name}"
            provider = "openai"  # whoever speaks OpenAI's protocol is taken for it, in the words of OpenTelemetry
            if hedge:
                engine = self.hedging = HedgedEngine(engine, hedge)
            engine = GuardedEngine(engine, self.breaker)
        model.engine = TracedEngine(engine, provider) if tracing.active() else engine


class Served:
    """A model under the name that clients use, with the language models ``behind`` it: it alone, all of a ladder's, or
    none. One that is ``borrowed`` is made of others that are served, which close it."""

    def __init__(
        self, id: str, entry: ModelEntry, model: Reasoner, behind: Sequence[Behind] = (), *, borrowed: bool = False
    ) -> None:
        self.id = id
        self.entry = entry
        self.model = model
        self.behind = tuple(behind)
        self.borrowed = borrowed
        self.created = int(time.time())
        self.masks = {secret: shown for one in behind for secret, shown in one.masks.items()}
        self.efforts: Mapping[Effort, EffortEntry] = {**EFFORTS, **entry.efforts}
        self.profile: Fitted | None = None
        self._variants: dict[str, Reasoner] = {}
        self._looking: asyncio.Task[None] | None = None
        if isinstance(model, LanguageModel):
            self.learn()

    def __repr__(self) -> str:
        return f"Served({self.id!r})"

    @property
    def state(self) -> str:
        """Of its upstreams, in a word: ``ready`` where one of them is, else ``resting`` or ``absent`` as the first."""
        states = [one.breaker.state for one in self.behind]
        return "ready" if "ready" in states or not states else states[0]

    def check(self) -> None:
        """Raises Refused (503) where none of its upstreams is to be asked now."""
        if self.state != "ready":
            self.behind[0].breaker.check()

    @property
    def first(self) -> Behind | None:
        """What gives its plain completions: the first of the models behind it that is not known to be down."""
        return next((one for one in self.behind if not one.breaker.open), self.behind[0] if self.behind else None)

    @property
    def context_length(self) -> int | None:
        return self.first.model.engine.traits.context_length if self.first else None

    def thinking(self, form: str, sampling: Sampling | None) -> Reasoner:
        """The model as a search uses it."""
        variant = self._variants.get(form)
        if variant is None:
            variant = self._variants[form] = in_form(self.model, form)
        if sampling is None:
            return variant
        if not self.behind:
            raise Refused(400, f"{self.id} has no sampling parameters", code="unsupported_parameter")
        return varied(variant, lambda one: one.using(sampling=overlaid(one.sampling, sampling)))

    def learn(self) -> None:
        """Let efforts go by the model's profile, where there is one."""
        assert isinstance(self.model, LanguageModel)
        self.profile = profile_of(self.model.engine.traits, self.entry.profile)
        if self.profile is not None:
            self.efforts = {**by_curve(self.profile.profile.ability), **self.entry.efforts}

    @property
    def card(self) -> ModelCard:
        """How it is told to clients."""
        return ModelCard(self.id, "model", self.created, "fathom", told(self.efforts, self.profile))

    def look_for(self, engine: OpenAIEngine) -> None:
        """The upstream is not there: refuse requests until it is."""
        (behind,) = self.behind
        behind.breaker.absent = True

        async def meet() -> None:
            await engine.identify()
            self.learn()

        self._looking = asyncio.create_task(behind.breaker.look_for(meet))

    async def aclose(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        if not self.borrowed:
            await self.model.aclose()


def overlaid(base: Sampling, said: Sampling) -> Sampling:
    """``base`` with what is said put over it, be it 0."""
    if base == _UNSAID:
        return said
    return replace(
        base, **{f.name: value for f in fields(said) if (value := getattr(said, f.name)) != getattr(_UNSAID, f.name)}
    )


def choose(models: Mapping[str, Served], name: str) -> Served:
    """The model of that name. Raises Refused (404)."""
    found = models.get(name)
    if found is None:
        raise Refused(404, one_of("model", name, models), code="model_not_found", param="model")
    return found


def opening_order(entries: Mapping[str, ModelEntry]) -> list[str]:
    """The names in the order in which they can be opened: last the ladders, which may be made of the others."""
    return sorted(entries, key=lambda name: named_model(entries[name].uri).kind == "ladder")


async def open_served(id: str, entry: ModelEntry, others: Mapping[str, Served]) -> Served:
    """Open a model as its entry says; a ladder may be made of ``others``. Raises what ``fathom.open`` raises, but for
    an upstream that is not there."""
    named = named_model(entry.uri)
    if named.kind == "openai":
        return await _open_upstream(id, entry, named)
    if entry.api_key_env or entry.max_concurrency or entry.timeout or entry.price:
        raise UsageError(f"models.{id}: api_key_env, price, timeout and max_concurrency go with openai: models only")
    if named.kind == "recursive":
        return Served(id, entry, await open_model(entry.uri))
    if named.kind == "ladder" and not set(rungs(named.place)).isdisjoint(others):
        return _ladder_of(id, entry, named, others)
    model = await open_model(entry.uri, form=entry.form)
    await asyncio.to_thread(warm_up)  # the algebra that compares answers: its import would hold up the first requests
    if isinstance(model, LanguageModel):
        model.name = id
    each = zip(members_of(model), _options(named), strict=True)
    behind = [Behind(one, options, entry.hedge) for one, options in each if isinstance(one, LanguageModel)]
    return Served(id, entry, model, behind)


def _ladder_of(id: str, entry: ModelEntry, named: ModelURI, others: Mapping[str, Served]) -> Served:
    """A ladder whose models are served by themselves, too."""
    names = rungs(named.place)
    if missing := [name for name in names if name not in others]:
        raise UsageError(
            f"models.{id}: {missing[0]} has no table of its own, as others of the ladder have: give it one"
        )
    if named.options:
        raise UsageError(f"models.{id}: the options of a ladder's models are said in their own tables")
    members = [others[name] for name in names]
    if nested := [member.id for member in members if isinstance(member.model, Ladder)]:
        raise UsageError(f"models.{id}: {nested[0]} is a ladder itself: name its models instead")
    behind = [one for member in members for one in member.behind]
    return Served(id, entry, Ladder([member.model for member in members]), behind, borrowed=True)


def _options(named: ModelURI) -> list[Mapping[str, Any]]:
    """The options of each model that a URI opens, as it gets them, in order."""
    if named.kind != "ladder":
        return [named.options]
    each = [named_model(rung) for rung in rungs(named.place)]
    return [{**named.options, **options} for rung in each for options in _options(rung)]


async def _open_upstream(id: str, entry: ModelEntry, named: ModelURI) -> Served:
    options = dict(named.options)
    sampling = drawn(options)
    options |= {"api_key": os.environ[entry.api_key_env] if entry.api_key_env else None}
    options |= {"timeout": entry.timeout} if entry.timeout else {}
    options |= {"max_concurrency": entry.max_concurrency} if entry.max_concurrency else {}
    if entry.price is not None:
        options["price"] = Price(entry.price.prompt, entry.price.completion)
    engine = await engine_of(named.place, **options)
    model = LanguageModel(engine, form=entry.form, sampling=sampling, name=id)
    lacking: UpstreamError | None = None
    try:
        await engine.identify()
    except UpstreamError as error:
        lacking = error
    served = Served(id, entry, model, [Behind(model, named.options, entry.hedge)])
    if lacking is not None:
        LOG.warning("%s: %s; it is looked for until it comes", id, lacking)
        served.look_for(engine)
    await model.prepare()
    await asyncio.to_thread(warm_up)
    return served
