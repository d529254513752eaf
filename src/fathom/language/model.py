"""A language model as a reasoner: an engine, how it is sampled, and what counts as its answer."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import threading
from typing import Any

import msgspec

from fathom.answers import warm_up
from fathom.budget import Meter
from fathom.errors import LimitError, PromptTooLong, UsageError, one_of
from fathom.language.asked import Asked
from fathom.language.engines.base import Engine, EngineCapability, Pace, Prompt, Sampling
from fathom.language.prompts import FORMS, AnswerForm, after
from fathom.language.session import LanguageSession
from fathom.language.structured import form_of
from fathom.language.timing import Habits, Timing
from fathom.reasoner import Capability
from fathom.records import Message, Problem

__all__ = ["DRAWING", "LanguageModel", "drawn"]

DEFAULT_SAMPLING = Sampling(temperature=0.7)
DRAWING = ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "stop")
"""The fields of Sampling that say how tokens are drawn, which are options of every language model."""
TOP_LOGPROBS = 20
"""How many of the likeliest tokens are asked for: the most that hosted APIs give."""

SEEDS, APART = 2**30, 663_608_941
"""A run draws with the seeds from its own times ``APART``, modulo ``SEEDS``: odd, and the golden section of it, so that
runs of seeds that follow each other (as averages over seeds take them) draw nothing in common."""

SMALL = 3e9
"""Parameters below which a model is shown an example of how to answer."""


def first_seed(seed: int) -> int:
    """The seed of a run's trajectory 0; those of the others follow it."""
    return seed * APART % SEEDS


def drawn(options: dict[str, Any], sampling: Sampling | None = None) -> Sampling:
    """How tokens are drawn: ``sampling`` or the default, and over it what ``options`` say, which is taken out of them.

    Raises UsageError for values that make no sense.
    """
    said = {name: options.pop(name) for name in DRAWING if name in options}
    try:
        found = msgspec.convert(said, Sampling)
    except msgspec.ValidationError as error:
        raise UsageError(f"the model's options: {error}") from None
    return dataclasses.replace(sampling or DEFAULT_SAMPLING, **{name: getattr(found, name) for name in said})


class LanguageModel:
    """An engine seen as a reasoner: depth is reasoning tokens, width is samples.

    ``form`` says what the answer is: a short result, code, or the whole text. ``sampling`` holds for all that is drawn;
    what a search wants greedy is drawn at temperature 0; with a ``schema`` the answer is the JSON that follows it, and
    no instructions are given beside the prompt. ``name`` is what receipts call it; by default as the engine
    does.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        form: AnswerForm | str = AnswerForm.SHORT,
        sampling: Sampling | None = None,
        name: str | None = None,
    ) -> None:
        self.engine = engine
        self.name = name or engine.traits.model
        if form not in tuple(AnswerForm):
            raise UsageError(one_of("answer form", form, tuple(AnswerForm)))
        self.form = AnswerForm(form)
        self.sampling = sampling or DEFAULT_SAMPLING
        self._habits: dict[AnswerForm, Habits] = {form: Habits(form.value) for form in AnswerForm}
        self._pace: Pace | None = None
        self._warm: dict[tuple[Message, ...], int] = {}

    def __repr__(self) -> str:
        return f"LanguageModel({self.name!r}, form={self.form.value!r})"

    def using(self, *, form: AnswerForm | str | None = None, sampling: Sampling | None = None) -> LanguageModel:
        """The same model with another answer form or sampling; the engine and what was learned are shared."""
        other = LanguageModel(self.engine, form=form or self.form, sampling=sampling or self.sampling, name=self.name)
        other._habits, other._pace, other._warm = self._habits, self._pace, self._warm
        return other

    @property
    def capabilities(self) -> frozenset[Capability]:
        has = self.engine.traits.capabilities
        found = {Capability.REVISE, Capability.WORDS}
        if EngineCapability.LOGPROBS in has:
            found |= {Capability.LOGPROBS, Capability.TOP_LOGPROBS}
        if EngineCapability.TOOLS in has:
            found.add(Capability.TOOLS)
        if EngineCapability.PREFIX in has:
            found |= {Capability.CONTINUE, Capability.FORK, Capability.STEPS, Capability.EXTEND}
        return frozenset(found)

    @property
    def max_width(self) -> int | None:
        return self.engine.traits.max_width

    async def prepare(self) -> None:
        """Make ready what the first answer would have to wait for. Idempotent.

        The engine's pace is measured, or its kept measurement loaded; the instructions are read ahead; and the algebra
        that compares answers is loaded beside, in a thread, which a model in this process waits for.
        """
        algebra = threading.Thread(target=warm_up, name="fathom-algebra", daemon=True)
        if self.form is AnswerForm.SHORT:
            algebra.start()
        self._pace = self._pace or await self.engine.pace()
        for direct in (False, True):
            opening = self._opening(direct)
            if opening and opening not in self._warm:
                await self.engine.warm(Prompt(opening))
                self._warm[opening] = await self.engine.count(Prompt(opening)) or 0
        if self._pace is not None and algebra.is_alive():  # it would hold up a model in the same process
            await asyncio.to_thread(algebra.join)

    def _opening(self, direct: bool) -> tuple[Message, ...]:
        return FORMS[self.form].opening(direct=direct, example=0 < self.engine.traits.parameters < SMALL)

    async def open(
        self, problem: Problem, meter: Meter, *, seed: int = 0, wants: frozenset[Capability] = frozenset()
    ) -> LanguageSession:
        form = form_of(self.form, self.sampling.schema, problem.tools)
        opening = self._opening(direct=False) if form.think else ()
        messages = after(opening, problem)
        prompt = Prompt(messages, tools=problem.tools)
        prompt_tokens = await self.engine.count(prompt)
        if prompt_tokens is None:
            prompt_tokens = prompt.guessed_tokens
        else:
            self._check_length(prompt_tokens, form.tokens)
            self._check_deadline(prompt_tokens - self._warm.get(opening, 0), meter)
        unread = max(0, prompt_tokens - self._warm.get(opening, 0))
        sampling = self.sampling
        if EngineCapability.LOGPROBS in self.engine.traits.capabilities:
            if wants & {Capability.LOGPROBS, Capability.TOP_LOGPROBS}:
                sampling = dataclasses.replace(sampling, logprobs=True)
            if Capability.TOP_LOGPROBS in wants:
                sampling = dataclasses.replace(sampling, top_logprobs=TOP_LOGPROBS)
        asked = Asked(
            name=self.name,
            messages=messages,
            direct=after(self._opening(direct=True) if form.think else (), problem),
            form=form,
            sampling=sampling,
            seed=first_seed(seed),
            prompt_tokens=prompt_tokens,
            tools=problem.tools,
        )
        timing = Timing(self.engine.traits, form, self._pace, self._habits[self.form], unread)
        return LanguageSession(self.engine, asked, timing)

    def _check_length(self, prompt_tokens: int, reserve: int) -> None:
        context = self.engine.traits.context_length
        if context is not None and prompt_tokens + reserve >= context:
            raise PromptTooLong(
                f"the prompt has {prompt_tokens} tokens; {self.name} has a context of {context}, of which {reserve} "
                f"are kept for the answer: shorten it by at least {prompt_tokens + reserve - context + 1} tokens"
            )

    def _check_deadline(self, prompt_tokens: int, meter: Meter) -> None:
        if self._pace is None or meter.deadline == math.inf:
            return
        needed = prompt_tokens * self._pace.read_seconds + self._pace.step(1)
        if needed >= meter.seconds_left:
            raise LimitError(
                "seconds",
                f"the deadline is too short: {self.name} takes about {needed:.2g} s on this machine to read the "
                f"{prompt_tokens} tokens of this prompt and begin an answer, and {meter.seconds_left:.2g} s are left; "
                f"allow at least {needed + 4 * self._pace.step(1):.2g} s",
            )

    async def aclose(self) -> None:
        await self.engine.aclose()
