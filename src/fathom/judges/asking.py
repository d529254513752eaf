"""Asking a language model for a verdict, on the run's account.

A judge's question is short and greedy, and its answer a JSON object of one field with a few possible values. What the
model thinks of all of them, not only of the one that it wrote, is read from the probabilities of the token that decided
(Liu et al., G-Eval, arXiv 2303.16634): their expectation is finer than any of the values. Without log-probabilities the
value that was written counts alone.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fathom.budget import Meter
from fathom.errors import CapabilityError, EngineError
from fathom.language.charging import charge, cut_off
from fathom.language.engines.base import Engine, EngineCapability, Piece, Prompt, Request, Sampling
from fathom.reasoner import Session
from fathom.records import Message

__all__ = ["VERDICT_TOKENS", "Asker", "NoVerdict", "Question", "check_model"]

ROLE = "judge"
VERDICT_TOKENS = 24
TOP = 20
_FIRST = re.compile(r"\s*(?:```(?:json)?\s*)?(\{[^{}]*\})")
_LAST = re.compile(r"(\{[^{}]*\})[\s`.]*\Z")


class NoVerdict(EngineError):
    """The model gave none: its reply held no verdict, the request failed, or the budget left nothing for it."""


@dataclass(frozen=True)
class Question:
    """What is asked: an instruction, the data, and the ``values`` that the field ``key`` of the answer may have.

    ``values`` gives each possible value its worth in [0, 1]. ``thinking`` is how many tokens the model may reason for
    before its verdict.
    """

    instruction: str
    data: str
    key: str
    values: Mapping[str, float]
    thinking: int = 0

    @property
    def schema(self) -> dict[str, Any]:
        numeric = all(value.isdigit() for value in self.values)
        enum: list[Any] = [int(value) if numeric else value for value in self.values]
        kind = "integer" if numeric else "string"
        properties = {self.key: {"type": kind, "enum": enum}}
        return {"type": "object", "properties": properties, "required": [self.key], "additionalProperties": False}

    def read(self, text: str) -> str | None:
        """The value in a reply: in the JSON object that it begins with or, where it was to think, ends with.

        An object elsewhere may be one that the candidate wrote, and that the model only repeats.
        """
        found = _LAST.search(text) if self.thinking else _FIRST.match(text)
        try:
            value = json.loads(found[1]).get(self.key) if found else None
        except (ValueError, RecursionError):
            return None
        known = isinstance(value, str | int) and not isinstance(value, bool) and str(value) in self.values
        return str(value) if known else None


@dataclass
class _Reply:
    text: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list[Sequence[tuple[str, float]]] = field(default_factory=list)
    tokens: int = 0
    ended: bool = False


class Asker:
    """Puts questions to one model for one run: the run's own, or that of a URI, opened at the first question."""

    def __init__(self, uri: str, meter: Meter, session: Session | None) -> None:
        self._uri = uri
        self._meter = meter
        self._session = session
        self._opening = asyncio.Lock()

    async def ask(self, question: Question) -> float:
        """The mean worth of the values, by their probability. Raises NoVerdict, and what opening a model raises."""
        shares = await self.weigh(question)
        return min(1.0, math.fsum(question.values[value] * share for value, share in shares.items()))

    async def weigh(self, question: Question) -> Mapping[str, float]:
        """The probabilities of the values, which sum to 1; those that are left out have none."""
        engine = await self._engine()
        reply = await self._generate(engine, question)
        text = "".join(reply.text)
        value = question.read(text)
        if value is None:
            raise NoVerdict(f"the judge's reply holds no verdict: {text.strip()[-160:]!r}")
        return _shares(value, question.values, reply)

    async def _engine(self) -> Engine:
        if not self._uri:
            engine: Engine | None = getattr(self._session, "engine", None)
            if engine is None:
                raise CapabilityError("this judge asks a language model; give it one, e.g. llm(model=embedded)")
            return engine
        async with self._opening:
            return await _opened(self._uri)

    async def _generate(self, engine: Engine, question: Question) -> _Reply:
        traits = engine.traits
        able = EngineCapability.LOGPROBS in traits.capabilities
        prompt = Prompt((Message("system", question.instruction), Message("user", question.data)))
        sampling = Sampling(
            temperature=0.0,
            logprobs=able,
            top_logprobs=TOP if able else 0,
            schema=question.schema
            if not question.thinking and EngineCapability.SCHEMA in traits.capabilities
            else None,
        )
        meter = self._meter
        if (ended := meter.exhausted) is not None:
            raise NoVerdict(f"the budget ended ({ended}) before the judge was asked")
        tokens = await engine.count(prompt) or 0
        reply = _Reply()
        unlimited = meter.deadline == math.inf
        with meter.lease(VERDICT_TOKENS + question.thinking, prompt_tokens=tokens, price=traits.price) as lease:
            if lease.tokens == 0:
                raise NoVerdict(f"the budget ({lease.refused}) leaves nothing for the judge")
            request = Request(
                prompt,
                max_tokens=lease.tokens,
                sampling=sampling,
                seed=0,
                stream=not unlimited,
                deadline=None if unlimited else meter.deadline,
            )

            def take(piece: Piece) -> None:
                reply.text.append(piece.text)
                reply.logprobs += piece.logprobs
                reply.top += piece.top_logprobs
                reply.tokens += piece.tokens
                reply.ended = piece.finish is not None
                charge(lease, ROLE, piece, seen=reply.tokens, parameters=traits.parameters)

            async with engine.generate(request) as generation:
                try:
                    async for piece in generation:
                        take(piece)
                        if piece.error is not None:
                            raise NoVerdict(str(piece.error)) from piece.error
                finally:
                    if not reply.ended:
                        await cut_off(generation, (0,), take)
        return reply


def _shares(value: str, values: Container[str], reply: _Reply) -> Mapping[str, float]:
    """The probabilities of the values at the token that decided; without log-probabilities, all for the value written.

    The token that decided is the last one that was the value and was sampled as such. Values that the engine did not
    tell among the likeliest tokens count as impossible; the rest is renormalised.
    """
    for logprob, top in zip(reversed(reply.logprobs), reversed(reply.top), strict=False):
        if not any(_plain(token) == value and abs(told - logprob) < 1e-3 for token, told in top):
            continue
        weights: dict[str, float] = {}
        for token, told in top:
            if (name := _plain(token)) in values:
                weights[name] = weights.get(name, 0.0) + math.exp(told)
        total = math.fsum(weights.values())
        if total > 0:
            return {name: weight / total for name, weight in weights.items()}
    return {value: 1.0}


def _plain(token: str) -> str:
    return token.strip(" \n\t\"'")


_MODELS: dict[str, Any] = {}


async def _opened(uri: str) -> Engine:
    """The engine of a judge's own model, which stays open for the judges of later runs."""
    model = _MODELS.get(uri)
    if model is None:
        from fathom.models import open_model

        opened = await open_model(uri)
        model = _MODELS.setdefault(uri, opened)
        if model is not opened:  # another run was faster
            await opened.aclose()
    engine: Engine | None = getattr(model, "engine", None)
    if engine is None:
        raise CapabilityError(f"{uri} is no language model, so it cannot judge")
    return engine


def check_model(uri: str) -> None:
    """Raises UnknownModel for a URI that names no kind of model; whether it can be opened shows when it is asked."""
    from fathom.models import named_model

    named_model(uri)
