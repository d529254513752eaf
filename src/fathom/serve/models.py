"""The models that a gateway serves: opened once when it starts, shared by all requests, one engine for each."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import fields, replace

from fathom import tracing
from fathom.answers import warm_up
from fathom.errors import UpstreamError, UsageError, one_of
from fathom.language.engines.base import Price, Sampling
from fathom.language.engines.hedged import HedgedEngine
from fathom.language.engines.openai import OpenAIEngine, engine_of
from fathom.language.engines.traced import TracedEngine
from fathom.language.model import LanguageModel, drawn
from fathom.models import named_model, open_model
from fathom.planning.profile import Fitted
from fathom.reasoner import Reasoner
from fathom.serve.breaker import Breaker, GuardedEngine
from fathom.serve.config import EffortEntry, ModelEntry
from fathom.serve.efforts import EFFORTS, by_curve, profile_of, told
from fathom.serve.refusal import Refused
from fathom.serve.wire import Effort, ModelCard
from fathom.team import in_form
from fathom.uris import ModelURI

__all__ = ["Served", "choose", "open_served"]

PROVIDERS = {"openai": "openai"}
"""Who runs a model, in the words of OpenTelemetry: whoever speaks OpenAI's protocol is taken for it."""

_UNSAID = Sampling()

LOG = logging.getLogger("fathom.serve")


class Served:
    """A model under the name that clients use. ``masks`` are words of errors that clients need not see."""

    def __init__(self, id: str, entry: ModelEntry, model: Reasoner) -> None:
        self.id = id
        self.entry = entry
        self.model = model
        self.created = int(time.time())
        self.masks: dict[str, str] = {}
        self.breaker = Breaker(id)
        self._variants: dict[str, Reasoner] = {}
        self._looking: asyncio.Task[None] | None = None
        self.profile: Fitted | None = None
        self.hedging: HedgedEngine | None = None
        self.efforts: Mapping[Effort, EffortEntry] = {**EFFORTS, **entry.efforts}
        self._drawn = _UNSAID  # how tokens are drawn, as far as the URI says anything of it
        if isinstance(model, LanguageModel):
            self._drawn = drawn(dict(named_model(entry.uri).options), _UNSAID)
            self.learn()
            model.name = id
            if isinstance(model.engine, OpenAIEngine):
                self.masks[model.engine.upstream.name] = f"the upstream of {id}"
                if entry.hedge:
                    model.engine = self.hedging = HedgedEngine(model.engine, entry.hedge)
                model.engine = GuardedEngine(model.engine, self.breaker)
            if tracing.active():
                model.engine = TracedEngine(model.engine, PROVIDERS.get(named_model(entry.uri).kind, "fathom"))

    def __repr__(self) -> str:
        return f"Served({self.id!r})"

    @property
    def context_length(self) -> int | None:
        return self.model.engine.traits.context_length if isinstance(self.model, LanguageModel) else None

    def thinking(self, form: str, sampling: Sampling | None) -> Reasoner:
        """The model as a search uses it."""
        variant = self._variants.get(form)
        if variant is None:
            variant = self._variants[form] = in_form(self.model, form)
        if sampling is None:
            return variant
        if not isinstance(variant, LanguageModel):
            raise Refused(400, f"{self.id} has no sampling parameters", code="unsupported_parameter")
        return variant.using(sampling=_overlaid(variant.sampling, sampling))

    def plainly(self, sampling: Sampling | None) -> Sampling:
        """How the tokens of a plain completion are drawn: as its model's URI says; the rest is the engine's choice."""
        return self._drawn if sampling is None else _overlaid(self._drawn, sampling)

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
        self.breaker.absent = True

        async def meet() -> None:
            await engine.identify()
            self.learn()

        self._looking = asyncio.create_task(self.breaker.look_for(meet))

    async def aclose(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        await self.model.aclose()


def _overlaid(base: Sampling, said: Sampling) -> Sampling:
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


async def open_served(id: str, entry: ModelEntry) -> Served:
    """Open a model as its entry says. Raises what ``fathom.open`` raises, but for an upstream that is not there."""
    named = named_model(entry.uri)
    if named.kind == "openai":
        return await _open_upstream(id, entry, named)
    if entry.api_key_env or entry.max_concurrency or entry.timeout or entry.price:
        raise UsageError(f"models.{id}: api_key_env, price, timeout and max_concurrency go with openai: models only")
    if named.kind == "recursive":
        return Served(id, entry, await open_model(entry.uri))
    model = await open_model(entry.uri, form=entry.form)
    await asyncio.to_thread(warm_up)  # the algebra that compares answers: its import would hold up the first requests
    return Served(id, entry, model)


async def _open_upstream(id: str, entry: ModelEntry, named: ModelURI) -> Served:
    options = dict(named.options)
    sampling = drawn(options)
    options |= {"api_key": os.environ[entry.api_key_env] if entry.api_key_env else None}
    options |= {"timeout": entry.timeout} if entry.timeout else {}
    options |= {"max_concurrency": entry.max_concurrency} if entry.max_concurrency else {}
    if entry.price is not None:
        options["price"] = Price(entry.price.prompt, entry.price.completion)
    engine = await engine_of(named.place, **options)
    model = LanguageModel(engine, form=entry.form, sampling=sampling)
    try:
        await engine.identify()
        served = Served(id, entry, model)
    except UpstreamError as error:
        served = Served(id, entry, model)
        LOG.warning("%s: %s; it is looked for until it comes", id, error)
        served.look_for(engine)
    await model.prepare()
    await asyncio.to_thread(warm_up)
    return served
