"""What a request comes down to: a model, messages, how tokens are drawn, a strategy and a budget, all within the
gateway's limits.

Strategy, budget and judges come from the request's fields and headers, never from the text of a prompt. A request that
asks for no thinking gets the model's plain completion.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from fathom.answers import Schema
from fathom.api import strategy_of
from fathom.budget import Budget
from fathom.errors import LimitError
from fathom.language.engines.base import Sampling
from fathom.records import Message, Tools
from fathom.search import Strategy
from fathom.search.samples import DEFAULT_WIDTH
from fathom.serve.config import Config, EffortEntry, Limits
from fathom.serve.models import Served
from fathom.serve.permit import permit_judge, permit_strategy
from fathom.serve.refusal import Refused
from fathom.serve.wanted import check_able, check_strategy, messages_of, sampling_wanted, schema_of, tools_of, wanted
from fathom.serve.wire import ChatRequest, Effort, FathomOptions
from fathom.units import parse_duration

__all__ = ["Ask", "ask_of", "options_of"]

PLAIN_TOKENS = 4096  # of a plain completion, where the request sets no bound
HEADER = "x-fathom-"
THINKING = ("within", "tokens", "width", "depth", "cost", "calls", "memory", "verify")


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, understood and checked. With ``strategy`` None it is the plain completion of the model.

    ``n`` answers are wanted at most; ``max_tokens`` is of a plain completion. ``sampling`` is what the request says of
    it. An answer that is no call of ``tools`` must be of the ``schema``. With log-probabilities, ``top_logprobs`` are
    to be told of every token.
    """

    served: Served
    messages: tuple[Message, ...]
    strategy: Strategy | None
    budget: Budget
    sampling: Sampling | None
    form: str
    seed: int | None
    n: int = 1
    max_tokens: int = PLAIN_TOKENS
    tools: Tools | None = None
    schema: Schema | None = None
    top_logprobs: int | None = None

    @property
    def label(self) -> str:
        """The strategy as a spec."""
        return "direct" if self.strategy is None else str(self.strategy)


def options_of(body: FathomOptions | None, headers: Mapping[str, str]) -> FathomOptions:
    """The extension's fields: from the body, or else from headers such as ``X-Fathom-Within: 2s``."""
    said = {name: value for name in FathomOptions.__struct_fields__ if (value := headers.get(HEADER + name))}
    if not said:
        return body or _NOTHING
    try:
        found = msgspec.convert(said, FathomOptions, strict=False)
    except msgspec.ValidationError as error:
        raise Refused(400, f"a header {HEADER}…: {error}", code="invalid_header", param="fathom") from None
    return _over(found, body) if body is not None else found


_NOTHING = FathomOptions()


def _over(base: FathomOptions, top: FathomOptions) -> FathomOptions:
    """``base`` with what ``top`` says put over it."""
    return msgspec.structs.replace(base, **_said(top))


def _said(options: msgspec.Struct) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(options).items() if value is not None}


async def ask_of(request: ChatRequest, options: FathomOptions, served: Served, config: Config) -> Ask:
    """What a chat request comes down to. Raises Refused and UsageError for what cannot be done."""
    limits = config.limits
    if len(request.messages) > limits.messages:
        raise Refused(400, f"{len(request.messages)} messages; at most {limits.messages}", param="messages")
    n = request.n or 1
    if n > limits.n:
        raise Refused(400, f"n is {n}; at most {limits.n}", code="invalid_limit", param="n")
    wants = wanted(request)
    check_able(wants, served)
    check_options(options, limits)
    effort = request.reasoning_effort
    spending = _within_limits(served.efforts.get(effort), limits) if effort else None
    strategy = _strategy(options, effort, spending, served, config, whole=bool(wants))
    if spending is not None:
        options = _over(spending, options)
    if strategy is not None:
        check_strategy(wants, strategy)
        if options.width is not None and n > options.width:
            said = f"n is {n}, of a search of {options.width}: raise fathom.width"
            raise Refused(400, said, code="invalid_limit", param="n")
    tools, format = tools_of(request), request.response_format
    # in a thread, since a large schema takes long to check
    schema = await asyncio.to_thread(schema_of, format) if format is not None else None
    if schema is not None and options.form is not None:
        raise Refused(
            400,
            "fathom.form is for text; response_format says it for JSON",
            code="unsupported_parameter",
            param="fathom.form",
        )
    return Ask(
        served=served,
        messages=messages_of(request.messages),
        strategy=strategy,
        budget=_budget(options, request, limits, plain=strategy is None),
        sampling=sampling_of(request),
        form=options.form or ("text" if tools or schema else served.entry.form),
        seed=request.seed,
        n=n,
        max_tokens=_most_tokens(request, options, served, limits),
        tools=tools,
        schema=schema,
        top_logprobs=(request.top_logprobs or 0) if request.logprobs else None,
    )


def sampling_of(request: ChatRequest) -> Sampling | None:
    """How tokens are drawn, where the request says anything of it."""
    said: dict[str, Any] = {
        name: value
        for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty")
        if (value := getattr(request, name)) is not None
    }
    if request.stop:
        said["stop"] = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop)
    said |= sampling_wanted(request)
    return Sampling(**said) if said else None


def check_options(options: FathomOptions, limits: Limits) -> None:
    """Raises LimitError for more than the gateway allows."""
    for name in ("tokens", "width", "depth", "cost"):
        value, most = getattr(options, name), getattr(limits, name)
        if value is not None and most is not None and value > most:
            raise LimitError(name, f"{name} is {value:g}; this gateway allows at most {most:g}")
    if options.within is not None and not parse_duration(options.within) <= limits.seconds:
        raise LimitError("seconds", f"within is {options.within}; this gateway allows at most {limits.seconds:g} s")


def _within_limits(effort: EffortEntry | None, limits: Limits) -> FathomOptions | None:
    """What an effort may spend, as far as the limits go."""
    if effort is None:
        return None
    said = _said(effort)
    for name in ("tokens", "width", "depth", "cost"):
        if name in said and getattr(limits, name) is not None:
            said[name] = min(said[name], getattr(limits, name))
    if "within" in said:
        said["within"] = min(parse_duration(said["within"]), limits.seconds)
    return FathomOptions(**said)


def _strategy(
    options: FathomOptions,
    effort: Effort | None,
    spending: FathomOptions | None,
    served: Served,
    config: Config,
    *,
    whole: bool,
) -> Strategy | None:
    """The strategy, or None for the plain completion that a language model gives where no thinking is asked for.

    Where none is named, ``whole`` asks for one that samples whole outputs.
    """
    judge = options.verify
    if judge is not None:
        permit_judge(judge, config)
    said = options.strategy
    if said is not None:
        if said not in config.strategies:
            permit_strategy(said, config)
    elif spending is not None:
        said = spending.strategy
    elif effort == "none":
        said = "direct"
    elif not any(getattr(options, name) is not None for name in THINKING):
        said = served.entry.strategy or "direct"
    plain = said == "direct" and judge is None and options.form in (None, "text")
    if plain and served.behind:
        return None
    if said is None and whole:
        said = "best-of-n" if judge is not None else "vote"
    return _built(config.strategies.get(said, said) if said else None, judge)


@lru_cache(maxsize=256)
def _built(text: str | None, judge: str | None) -> Strategy:
    return strategy_of(text, judge)


def _budget(options: FathomOptions, request: ChatRequest, limits: Limits, *, plain: bool) -> Budget:
    """What may be spent. OpenAI's ``max_completion_tokens`` bounds everything that is generated, reasoning included;
    the older ``max_tokens`` the text of each trajectory."""
    width, depth, tokens = options.width, options.depth, options.tokens
    if width is None and limits.width < DEFAULT_WIDTH:
        width = limits.width
    if request.max_tokens is not None:
        depth = min(request.max_tokens, depth if depth is not None else limits.depth)
    if request.max_completion_tokens is not None and not plain:
        tokens = min(request.max_completion_tokens, tokens if tokens is not None else limits.tokens)
    return Budget(
        seconds=options.within,
        tokens=limits.tokens if tokens is None else tokens,
        width=None if plain else width,
        depth=None if plain else depth,
        memory_bytes=options.memory,
        cost=options.cost if options.cost is not None else limits.cost,
        calls=options.calls,
    )


def _most_tokens(request: ChatRequest, options: FathomOptions, served: Served, limits: Limits) -> int:
    """Tokens of each choice of a plain completion: as asked, or what is usual and fits the context."""
    bounds = [b for b in (request.max_completion_tokens, request.max_tokens, options.depth or None) if b is not None]
    if not bounds:
        bounds = [PLAIN_TOKENS, (served.context_length or 2 * PLAIN_TOKENS) // 2]
    return min(*bounds, limits.depth)
