"""Chat completions against any OpenAI-compatible server: vLLM, SGLang, llama.cpp, Ollama, hosted APIs.

The engine says what is asked, the server decides how it runs. Differences between servers are found out once per engine
and kept (`openai_dialect`); connections, permits and retries are the upstream's (`upstream`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import aiohttp
import msgspec

from fathom.errors import UsageError, one_of
from fathom.language.engines.base import EngineCapability, EngineTraits, Pace, Price, Prompt, Request
from fathom.language.engines.openai_dialect import Dialect, Prefix
from fathom.language.engines.openai_generation import OpenAIGeneration
from fathom.language.engines.openai_wire import refusal
from fathom.language.engines.prices import listed_price
from fathom.language.engines.upstream import Failure, RetryPolicy, Upstream, read_within

__all__ = ["OpenAIEngine", "engine_of"]

DEFAULT_BASE_URL = "https://api.openai.com/v1"
MODELS_BYTES = 8 << 20
PREFIX_OF: dict[str, Prefix] = {"vllm": "continue", "sglang": "continue", "llamacpp": "native"}  # by "owned_by"


class _Meta(msgspec.Struct):
    n_ctx: int | None = None
    n_params: int | None = None


class _Model(msgspec.Struct):
    id: str = ""
    owned_by: str = ""
    max_model_len: int | None = None
    meta: _Meta | None = None


class _Models(msgspec.Struct):
    data: list[_Model] = []


class OpenAIEngine:
    """A model behind a chat completions server.

    ``base_url`` and ``api_key`` come from ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY`` where not given; the key appears
    in no error and no ``repr``. ``timeout`` is the longest silence of the server in seconds; the whole is bounded by
    the request's deadline. ``max_concurrency`` bounds the upstream requests in flight per event loop, below which their
    number adapts to what the server bears. ``price``, ``parameters`` and ``context_length`` are told, not known.

    ``prefix`` says how the server continues a begun assistant's turn: ``"continue"`` with ``continue_final_message``
    (vLLM, SGLang), ``"native"`` without being told (llama.cpp), ``"none"`` not at all, as hosted APIs. ``"auto"`` asks
    the server what it is (``GET /models``) when the first prompt with a prefix comes, or when `identify` is called.

    A seed makes a reply repeatable only as far as the server goes: batching and other hardware change the last bits.
    Where a server honours n, choice i of its reply draws as the server derives it from the request's seed.

    Raises UsageError for a base URL, key, header or limit that makes no sense.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        price: Price | None = None,
        parameters: int = 0,
        context_length: int | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 120.0,
        max_concurrency: int = 256,
        retry: RetryPolicy | None = None,
        prefix: Prefix | Literal["auto"] = "auto",
    ) -> None:
        if not model:
            raise UsageError("the model's name is empty")
        if prefix not in ("auto", "continue", "native", "none"):
            raise UsageError(one_of("prefix mode", prefix, ("auto", "continue", "native", "none")))
        self.model = model
        self.upstream = Upstream(
            base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_BASE_URL,
            api_key=os.environ.get("OPENAI_API_KEY") if api_key is None else api_key,
            headers=headers,
            timeout=timeout,
            max_concurrency=max_concurrency,
            retry=retry,
        )
        self.url = self.upstream.url("chat/completions")
        self.dialect = Dialect(prefix=None if prefix == "auto" else prefix)
        self._traits = EngineTraits(model, context_length, parameters=parameters, price=price)
        self._identified = False
        self._known: tuple[Dialect, EngineTraits] | None = None

    def __repr__(self) -> str:
        return f"OpenAIEngine({self.model!r}, base_url={self.upstream.name!r}, api_key='***')"

    @property
    def traits(self) -> EngineTraits:
        """As far as is known by now: a capability goes when the server refuses or ignores what belongs to it."""
        dialect = self.dialect
        if self._known is not None and self._known[0] is dialect:
            return self._known[1]
        able = {EngineCapability.SCHEMA, EngineCapability.TOOLS, EngineCapability.BIAS}
        able |= {EngineCapability.LOGPROBS} if dialect.logprobs else set()
        able |= {EngineCapability.SEED} if dialect.seed else set()
        able |= {EngineCapability.MANY} if dialect.many != 1 else set()
        able |= {EngineCapability.PREFIX} if dialect.prefix in ("continue", "native") else set()
        self._known = dialect, replace(self._traits, capabilities=frozenset(able))
        return self._known[1]

    def priced(self, price: Price | None) -> None:
        """Say what it costs."""
        self._traits, self._known = replace(self._traits, price=price), None

    def generate(self, request: Request) -> OpenAIGeneration:
        """Raises UsageError for counts that make no sense."""
        if request.n < 1 or request.max_tokens < 1:
            raise UsageError(f"n and max_tokens must be 1 or more, not {request.n!r} and {request.max_tokens!r}")
        return OpenAIGeneration(self, request)

    async def identify(self) -> EngineTraits:
        """Ask the server, once, what it is and what it tells of the model.

        A server that does not list its models stays unknown, which is no error. Raises UpstreamError for one that is
        out of reach.
        """
        if self._identified:
            return self.traits
        found = await self._models()
        if isinstance(found, Failure):
            if found.again or found.error.status is None:
                raise found.error
            found = []
        self._identified = True
        mine = next((model for model in found if model.id == self.model), found[0] if len(found) == 1 else _Model())
        kind = mine.owned_by or (found[0].owned_by if found else "")
        if self.dialect.prefix is None:
            self.dialect = replace(self.dialect, prefix=PREFIX_OF.get(kind, "none"))
        meta = mine.meta or _Meta()
        self._traits = replace(
            self._traits,
            context_length=self._traits.context_length or mine.max_model_len or meta.n_ctx,
            parameters=self._traits.parameters or meta.n_params or 0,
            version=kind,
        )
        self._known = None
        return self.traits

    async def _models(self) -> list[_Model] | Failure:
        lane = await self.upstream.lane()
        try:
            async with lane.session.get(self.upstream.url("models"), allow_redirects=False) as response:
                if response.status >= 300:
                    return await self.upstream.refused(response, lambda body: refusal(body).message)
                raw = await read_within(response, MODELS_BYTES)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return self.upstream.broken(error)
        try:
            return msgspec.json.decode(raw or b"", type=_Models).data
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return []

    async def count(self, prompt: Prompt) -> int | None:
        """None: the tokeniser is the server's."""
        return None

    async def pace(self) -> Pace | None:
        """None: the machine is the server's."""
        return None

    async def warm(self, prompt: Prompt) -> None:
        """Nothing: what a server keeps is its own affair."""

    async def aclose(self) -> None:
        """Close the connections of every event loop. What still runs fails; the engine cannot be used again."""
        await self.upstream.aclose()


async def engine_of(name: str, **options: Any) -> OpenAIEngine:
    """The engine that a URI's ``MODEL[@BASE_URL]`` names, with the listed price where none is given. Its server has not
    been asked anything yet."""
    model, base_url = _placed(name)
    engine = OpenAIEngine(model, base_url or None, **options)
    if engine.traits.price is None:
        engine.priced(await listed_price(model, engine.upstream.name))
    return engine


def _placed(name: str) -> tuple[str, str]:
    """``MODEL@BASE_URL`` taken apart. Names of models may have an @ of their own, which no address follows."""
    model, at, place = name.rpartition("@")
    while at and "://" not in place and "@http" in model:  # an address with a user in it
        model, _, more = model.rpartition("@")
        place = f"{more}@{place}"
    return (model, place) if model and ":" in place else (name, "")
