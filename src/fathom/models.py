"""Models by name and URI, and what it takes to open each kind.

What a kind needs is imported only when it is opened, so that importing Fathom stays light, and an error names what is
missing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from fathom.errors import UnknownModel, UsageError, one_of
from fathom.reasoner import Reasoner

__all__ = ["KINDS", "Kind", "open_model"]


@dataclass(frozen=True)
class Kind:
    """A kind of model: the form of its URI, what it is, the packages that it needs and the extra that brings them."""

    uri: str
    summary: str
    opener: Callable[..., Awaitable[Reasoner]]
    packages: tuple[str, ...] = ()
    extra: str = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """The packages that are not installed."""
        return tuple(name for name in self.packages if find_spec(name) is None)


async def open_model(uri: str = "embedded", **options: Any) -> Reasoner:
    """Open the model that a name or URI names; ready to answer when this returns. See ``fathom.open``."""
    from fathom.language.catalogue import CATALOGUE

    scheme, colon, rest = uri.partition(":")
    if uri in ("", "embedded"):
        return await _embedded("", **options)
    if uri in CATALOGUE:
        return await _embedded(uri, **options)
    if colon and rest and scheme in KINDS:
        try:
            return await KINDS[scheme].opener(rest, **options)
        except TypeError as error:
            if "unexpected keyword argument" in str(error):
                raise UsageError(f"{uri}: {str(error).partition(') ')[2] or error}") from None
            raise
    forms = [kind.uri for kind in KINDS.values()]
    raise UnknownModel(one_of("model", uri, ["embedded", *CATALOGUE, *forms]))


async def _embedded(name: str, *, progress: Any = None, **options: Any) -> Reasoner:
    from fathom.language.catalogue import DEFAULT_MODEL
    from fathom.language.download import obtain

    path = await asyncio.to_thread(obtain, name or DEFAULT_MODEL, progress=progress)
    return await _gguf(os.fspath(path), name=name or DEFAULT_MODEL, **options)


async def _gguf(
    path: str, *, form: str = "short", sampling: Any = None, name: str | None = None, **options: Any
) -> Reasoner:
    from fathom.language.engines.llama import open_gguf
    from fathom.language.model import DEFAULT_SAMPLING, LanguageModel

    engine = await asyncio.to_thread(open_gguf, path, **({"name": name} if name else {}), **options)
    model = LanguageModel(engine, form=form, sampling=sampling or DEFAULT_SAMPLING)
    await model.prepare()
    return model


async def _openai(name: str, *, form: str = "short", sampling: Any = None, **options: Any) -> Reasoner:
    from fathom.language.engines.openai import OpenAIEngine
    from fathom.language.model import DEFAULT_SAMPLING, LanguageModel

    name, _, base_url = name.partition("@")
    engine = OpenAIEngine(name, **({"base_url": base_url} if base_url else {}), **options)
    return LanguageModel(engine, form=form, sampling=sampling or DEFAULT_SAMPLING)


KINDS: Mapping[str, Kind] = {
    "gguf": Kind("gguf:PATH", "any GGUF file, run in process by llama.cpp", _gguf, ("xllamacpp", "numpy"), "local"),
    "openai": Kind("openai:MODEL[@BASE_URL]", "any OpenAI-compatible server", _openai),
}
