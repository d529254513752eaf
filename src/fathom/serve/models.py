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
from fathom.errors import UnknownModel, UpstreamError, UsageError, one_of
from fathom.language.engines.base import Price, Sampling
from fathom.language.engines.hedged import HedgedEngine
from fathom.language.engines.openai import OpenAIEngine, engine_of
from fathom.language.engines.traced import TracedEngine
from fathom.language.model import LanguageModel, drawn
from fathom.models import checked_options, named_model, open_model
from fathom.planning.ladder import Ladder, rungs
from fathom.planning.profile import Fitted
from fathom.reasoner import Reasoner
from fathom.serve.breaker import Breaker, GuardedEngine
from fathom.serve.config import EffortEntry, ModelEntry
from fathom.serve.efforts import EFFORTS, by_curve, profile_of, told
from fathom.serve.refusal import Refused
from fathom.serve.wire import Effort, ModelCard
from fathom.team import in_form, varied
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
    none. A ladder is made of served models; its ``parts`` are those of them that no client can name, and nobody else
    closes."""

    def __init__(
        self,
        id: str,
        entry: ModelEntry,
        model: Reasoner,
        behind: Sequence[Behind] = (),
        *,
        parts: Sequence[Served] | None = None,
    ) -> None:
        self.id = id
        self.entry = entry
        self.model = model
        self.behind = tuple(behind)
        self.parts = parts
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
    def own(self) -> tuple[Behind, ...]:
        """Those behind it that are behind no other model that clients can name."""
        return self.behind if self.parts is None else tuple(one for part in self.parts for one in part.behind)

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
        if self.parts is None:
            await self.model.aclose()
        else:
            await asyncio.gather(*(part.aclose() for part in self.parts))


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
    if named.kind != "openai" and (entry.api_key_env or entry.max_concurrency or entry.timeout or entry.price):
        raise UsageError(f"models.{id}: api_key_env, price, timeout and max_concurrency go with openai: models only")
    if named.kind == "ladder":
        return await _open_ladder(id, entry, named, others)
    return await _open_one(entry, id)


async def _open_one(entry: ModelEntry, id: str | None = None) -> Served:
    """A model that is no ladder; without an id it goes by its own name."""
    named = named_model(entry.uri)
    if named.kind == "openai":
        return await _open_upstream(entry, named, id)
    form: dict[str, Any] = {} if named.kind == "recursive" else {"form": entry.form}
    model = await open_model(entry.uri, **form)
    if not isinstance(model, LanguageModel):
        return Served(id or model.name, entry, model)
    await asyncio.to_thread(warm_up)  # the algebra that compares answers: its import would hold up the first requests
    model.name = id or model.name
    return Served(model.name, entry, model, [Behind(model, named.options, entry.hedge)])


async def _open_ladder(id: str, entry: ModelEntry, named: ModelURI, others: Mapping[str, Served]) -> Served:
    """A ladder of models that are served by themselves, too, and of some that have no table: these are opened for
    it."""
    names = rungs(named.place)
    alone = {name: _rung(id, name, named.options) for name in names if name not in others}
    if named.options and not alone:
        raise UsageError(f"models.{id}: the options of a ladder's models are said in their own tables")
    kinds = [alone[name].kind if name in alone else named_model(others[name].entry.uri).kind for name in names]
    if "ladder" in kinds:
        raise UsageError(f"models.{id}: {names[kinds.index('ladder')]} is a ladder itself: name its models instead")
    parts: dict[str, Served] = {}
    try:
        for name, rung in alone.items():
            parts[name] = await _open_one(ModelEntry(uri=str(rung), form=entry.form, hedge=entry.hedge))
    except BaseException:
        await asyncio.gather(*(part.aclose() for part in parts.values()))
        raise
    members = [others.get(name) or parts[name] for name in names]
    behind = [one for member in members for one in member.behind]
    return Served(id, entry, Ladder([member.model for member in members]), behind, parts=tuple(parts.values()))


def _rung(id: str, name: str, options: Mapping[str, Any]) -> ModelURI:
    """A model of a ladder that has no table of its own; it has the ladder's options where it does not say others."""
    try:
        named = named_model(name)
    except UnknownModel as error:
        raise UsageError(f"models.{id}: {name} has no table of its own, nor is it a model's name: {error}") from None
    return replace(named, options={**options, **named.options})


async def _open_upstream(entry: ModelEntry, named: ModelURI, id: str | None) -> Served:
    options = checked_options(entry.uri, named)
    sampling = drawn(options)
    options |= {"api_key": os.environ[entry.api_key_env] if entry.api_key_env else None}
    options |= {"timeout": entry.timeout} if entry.timeout else {}
    options |= {"max_concurrency": entry.max_concurrency} if entry.max_concurrency else {}
    if entry.price is not None:
        options["price"] = Price(entry.price.prompt, entry.price.completion)
    form = options.pop("form", entry.form)
    engine = await engine_of(named.place, **options)
    model = LanguageModel(engine, form=form, sampling=sampling, name=id)
    lacking: UpstreamError | None = None
    try:
        await engine.identify()
    except UpstreamError as error:
        lacking = error
    served = Served(model.name, entry, model, [Behind(model, named.options, entry.hedge)])
    if lacking is not None:
        LOG.warning("%s: %s; it is looked for until it comes", served.id, lacking)
        served.look_for(engine)
    await model.prepare()
    await asyncio.to_thread(warm_up)
    return served
