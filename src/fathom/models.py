"""Models by name and URI, and what it takes to open each kind.

What a kind needs is imported only when it is opened, so that importing Fathom stays light, and an error names what is
missing.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec

from fathom.errors import UnknownModel, UsageError, one_of
from fathom.language.catalogue import CATALOGUE, DEFAULT_MODEL
from fathom.language.engines.base import Price
from fathom.language.model import DRAWING, LanguageModel, drawn
from fathom.reasoner import Reasoner
from fathom.uris import ModelURI

if TYPE_CHECKING:
    from fathom.language.download import Progress
    from fathom.language.engines.base import Engine, Sampling

__all__ = ["KINDS", "Kind", "available", "checked_options", "named_model", "open_model"]


@dataclass(frozen=True)
class Kind:
    """A kind of model: its URI, what it is and can do, the packages that it needs and the extra that has them.

    ``takes`` names what the options in a name are for, ``MODULE:OBJECT``; it is imported when there are some.
    """

    uri: str
    summary: str
    can: str
    opener: Callable[..., Awaitable[Reasoner]]
    packages: tuple[str, ...] = ()
    extra: str = ""
    takes: str = ""

    @property
    def state(self) -> str:
        """Whether it can be opened here, or what to install."""
        missing = [name for name in self.packages if find_spec(name) is None]
        return f"needs pip install 'fathom-inference[{self.extra}]'" if missing else "ready"


def available() -> list[dict[str, str]]:
    """What can be opened here: for each model or kind its ``uri``, ``summary``, what it ``can``, and ``state``; for
    embedded models also the ``pace`` that was measured on this machine, empty before that.
    """
    from fathom.language.download import cached
    from fathom.language.engines.pace import remembered

    local = KINDS["gguf"]
    rows = []
    for name, entry in CATALOGUE.items():
        fetched = "ready" if cached(name) else f"fetched at first use, {entry.size_bytes / 1e6:.0f} MB"
        rows.append(
            {
                "uri": f"{name} (embedded)" if name == DEFAULT_MODEL else name,
                "summary": f"{entry.description}. {entry.licence}.",
                "can": local.can,
                "state": fetched if local.state == "ready" else local.state,
                "pace": remembered(entry.file_name, entry.size_bytes),
            }
        )
    rows += [{"uri": k.uri, "summary": k.summary, "can": k.can, "state": k.state} for k in KINDS.values()]
    return rows


async def open_model(uri: str = "embedded", *, progress: Progress | None = None, **options: Any) -> Reasoner:
    """Open the model that a name or URI names; ready to answer when this returns. See ``fathom.open``.

    Options in the URI (``embedded(temperature=0.4)``) go before ``options``. ``progress`` is told how far a download
    is, where the model has to be fetched first.
    """
    named = named_model(uri)
    options = {**options, **checked_options(uri, named)}
    if named.kind in ("", "gguf") and options.get("draft") in CATALOGUE:
        options["draft"] = await _fetched(options["draft"], progress)
    try:
        if named.kind:
            return await KINDS[named.kind].opener(named.place, **options)
        return await _gguf(await _fetched(named.place, progress), name=named.place, **options)
    except TypeError as error:
        if "unexpected keyword argument" in str(error):
            raise UsageError(f"{uri}: such a model has no option {str(error).rpartition(' ')[2]}") from None
        raise


def named_model(uri: str) -> ModelURI:
    """The URI taken apart. Raises UnknownModel where it names no kind of model, and none of the catalogue's."""
    found = ModelURI.parse(uri)
    if "api_key" in found.options:
        raise UsageError("a key is not said in a model's name, which is kept and shown: set OPENAI_API_KEY")
    if found.place in CATALOGUE if not found.kind else found.kind in KINDS and found.place:
        return found
    raise UnknownModel(one_of("model", uri, ["embedded", *CATALOGUE, *(kind.uri for kind in KINDS.values())]))


def checked_options(uri: str, named: ModelURI) -> dict[str, Any]:
    """The options of a URI as their owner's annotations read them; a price is said as ``[read, generated]``, in dollars
    per million tokens. Raises UsageError, which calls it ``uri``, for what does not fit."""
    said = {name: value for name, value in named.options.items() if name not in DRAWING}
    if not said:
        return dict(named.options)
    if named.kind == "ladder":  # they go to each of its models
        from fathom.planning.ladder import rungs

        each = [replace(named_model(rung), options=named.options) for rung in rungs(named.place)]
        return [checked_options(uri, one) for one in each][-1]
    owner = resolve_name(KINDS[named.kind or "gguf"].takes)
    known = [p.name for p in inspect.signature(owner).parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    types = get_type_hints(owner) | {"form": str, "price": tuple[float, float]}
    checked: dict[str, Any] = {}
    for name, value in said.items():
        if name not in known and (name != "form" or named.kind == "recursive"):
            raise UsageError(f"{uri}: such a model has no option {name!r}")
        try:
            checked[name] = msgspec.convert(value, types[name], strict=False)
        except msgspec.ValidationError as error:
            raise UsageError(f"{uri}: {name}: {error}, given {value!r}") from None
    if "price" in checked:
        checked["price"] = Price(*checked["price"])
    return {**named.options, **checked}


async def _fetched(name: str, progress: Progress | None) -> str:
    """The path of a model of the catalogue, once it is here."""
    from fathom.language.download import aobtain

    return os.fspath(await aobtain(name, progress=progress))


def _speaking(open_engine: Callable[..., Awaitable[Engine]]) -> Callable[..., Awaitable[LanguageModel]]:
    """Opens a language model that is ready to answer by what opens its engine, which the other options go to."""

    async def opened(
        place: str, *, form: str = "short", sampling: Sampling | None = None, name: str | None = None, **options: Any
    ) -> LanguageModel:
        how = drawn(options, sampling)
        engine = await open_engine(place, **options)
        try:
            model = LanguageModel(engine, form=form, sampling=how, name=name)
            await model.prepare()
        except BaseException:
            await engine.aclose()
            raise
        return model

    return opened


@_speaking
async def _gguf(path: str, **options: Any) -> Engine:
    from fathom.language.engines.gguf import open_gguf

    return await asyncio.to_thread(open_gguf, path, **options)


@_speaking
async def _openai(name: str, **options: Any) -> Engine:
    from fathom.language.engines.openai import engine_of

    engine = await engine_of(name, **options)
    await engine.identify()
    return engine


@_speaking
async def _hf(name: str, **options: Any) -> Engine:
    from fathom.language.engines.hf import HFEngine

    return await asyncio.to_thread(HFEngine, name, **options)


async def _recursive(name: str, **options: Any) -> Reasoner:
    from fathom.recursive.reasoner import open_recursive

    return await open_recursive(name, **options)


async def _ladder(names: str, **options: Any) -> Reasoner:
    from fathom.planning.ladder import open_ladder

    return await open_ladder(names, **options)


def _shipped() -> str:
    """The names of the recursive checkpoints in the package; no torch is needed to read them."""
    folder = files("fathom") / "recursive" / "checkpoints"
    return ", ".join(sorted(f.name.removesuffix(".safetensors") for f in folder.iterdir() if "safetensors" in f.name))


_LOCAL = "logprobs, extend, fork, revise; tools where its chat template has them"

KINDS: Mapping[str, Kind] = {
    "gguf": Kind(
        "gguf:PATH",
        "Any GGUF file, run in process by llama.cpp.",
        _LOCAL,
        _gguf,
        ("xllamacpp",),
        "local",
        "fathom.language.engines.gguf:open_gguf",
    ),
    "hf": Kind(
        "hf:PATH_OR_ID",
        "A language model of transformers, in process: a directory, or an id on the model hub; CPU or GPU.",
        _LOCAL,
        _hf,
        ("transformers", "torch", "safetensors"),
        "hf",
        "fathom.language.engines.hf:HFEngine.__init__",
    ),
    "openai": Kind(
        "openai:MODEL[@BASE_URL]",
        "Any OpenAI-compatible server: vLLM, SGLang, llama.cpp, Ollama, hosted APIs.",
        "revise, tools; logprobs, extend and fork where the server offers them",
        _openai,
        takes="fathom.language.engines.openai:OpenAIEngine.__init__",
    ),
    "ladder": Kind(
        "ladder:embedded",
        "Several models as one, cheapest first (or ladder:a,b,c): auto plans which to ask, and when to ask the next.",
        "what all of its models can",
        _ladder,
    ),
    "recursive": Kind(
        "recursive:NAME_OR_PATH",
        f"Recursive reasoning models, which solve puzzles in latent space: {_shipped()}; others by their file.",
        "valid (knows a right answer), value, steps, extend, continue, fork",
        _recursive,
        ("torch", "safetensors"),
        "recursive",
        "fathom.recursive.reasoner:open_recursive",
    ),
}
