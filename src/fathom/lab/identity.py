"""What makes trajectories belong together: the model and its file, the engine, the sampling, the words, the questions.

Also what is to be known of a model when its trajectories are read without it: its size, pace and price.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fathom
from fathom.budget import Meter
from fathom.costs import Costed
from fathom.errors import InputError
from fathom.lab.datasets import Dataset
from fathom.lab.records import Terms
from fathom.language.catalogue import CATALOGUE
from fathom.language.engines.base import Sampling
from fathom.language.model import LanguageModel
from fathom.language.prompts import FORMS
from fathom.planning.ladder import Ladder, rungs
from fathom.reasoner import Reasoner
from fathom.records import Problem
from fathom.uris import ModelURI

__all__ = ["facts_of", "hash_of", "terms_of"]

_MIB = 1 << 20
_WHOLE = 4096 * _MIB
"""Bytes up to which a weight file of a directory is hashed as a whole; of a larger one a MiB in every sixteen is."""
_MAKES_A_MODEL = (
    "*.safetensors", "config.json", "generation_config.json", "tokenizer*", "vocab*", "merges.txt",
    "special_tokens_map.json", "added_tokens.json", "chat_template*",
)  # fmt: skip
_ALSO_LAW = ("template", "context")
"""Options of engines that change what is written, beside those of the sampling; the others only change how fast."""


def hash_of(uri: str) -> str:
    """The sha256 of the file that a model's URI leads to, those of its models for a ladder; empty where nobody sees it.

    Of a model of transformers all files are hashed together that decide what it writes: weights, configuration and
    tokeniser, by name and content, those of an id as they lie in the hub's cache. Of weight files beyond 4 GiB it is
    their size and a MiB in every sixteen: training changes every large matrix, so none passes for another. A server's
    files are out of sight.
    """
    named = ModelURI.parse(uri)
    match named.kind:
        case "":
            return CATALOGUE[named.place].sha256 if named.place in CATALOGUE else ""
        case "recursive":
            from fathom.recursive.library import find_checkpoint

            return _digest(find_checkpoint(named.place))
        case "gguf":
            return _digest(Path(named.place))
        case "hf":
            return _directory_digest(named.place)
        case "ladder":
            return _of_all(hash_of(rung) for rung in rungs(named.place))
    return ""


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from None


def _directory_digest(place: str) -> str:
    folder = Path(place).expanduser()
    if not folder.is_dir():
        cached = _cached(place)
        if cached is None:
            return ""
        folder = cached
    digest = hashlib.sha256()
    for file in sorted({file for pattern in _MAKES_A_MODEL for file in folder.glob(pattern) if file.is_file()}):
        _add(digest, file)
    return digest.hexdigest()


def _cached(name: str) -> Path | None:
    """Where the hub's cache has the model of this id, as it was opened last; None without the packages for that."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    except ImportError:
        return None
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _add(digest: hashlib._Hash, path: Path) -> None:
    try:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            for at in range(0, size, _MIB if size <= _WHOLE else 16 * _MIB):
                file.seek(at)
                digest.update(file.read(_MIB))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from None


def _of_all(parts: Iterable[str]) -> str:
    """What is told of each model of several, in order; empty where nothing is told of any."""
    told = list(parts)
    return " | ".join(part or "-" for part in told) if any(told) else ""


def terms_of(model: Reasoner, uri: str, dataset: Dataset, seed: int) -> Terms:
    """The terms of a sweep of this model on this dataset."""
    return Terms(
        model=model.name,
        model_hash=hash_of(uri),
        engine=_engine(model),
        sampling=_sampling(model, ModelURI.parse(uri)),
        prompts=_prompts(model),
        dataset=dataset.name,
        seed=seed,
    )


def _engine(model: Reasoner) -> str:
    if isinstance(model, LanguageModel):
        traits = model.engine.traits
        return f"{traits.model} {traits.version}".strip()
    if isinstance(model, Ladder):
        return _of_all(map(_engine, model.members))
    return f"fathom {fathom.__version__}"


def _sampling(model: Reasoner, uri: ModelURI) -> str:
    """How it draws, as far as that was said: what is left to the engine, or as it always is, is not told."""
    if isinstance(model, Ladder):
        own = map(ModelURI.parse, rungs(uri.place))
        return _of_all(
            _sampling(member, ModelURI(its.kind, its.place, {**uri.options, **its.options}))
            for member, its in zip(model.members, own, strict=True)
        )
    if not isinstance(model, LanguageModel):
        return ""  # how a recursive model was opened is part of its name
    said, usual = asdict(model.sampling), asdict(Sampling())
    chosen = {name: value for name, value in said.items() if value != usual[name]}
    chosen |= {name: uri.options[name] for name in _ALSO_LAW if uri.options.get(name) is not None}
    return json.dumps(chosen, sort_keys=True)


def _prompts(model: Reasoner) -> str:
    if isinstance(model, LanguageModel):
        form = FORMS[model.form]
        return f"{model.form} {hashlib.sha256((repr(form) + form.manner).encode()).hexdigest()[:16]}"
    return _of_all(map(_prompts, model.members)) if isinstance(model, Ladder) else ""


async def facts_of(model: Reasoner, uri: str, prompt: str) -> dict[str, Any]:
    """What is known of the model: its ``unit`` of depth, ``parameters``, and where they are, the ``unit_flops`` of a
    unit of depth, ``pace``, ``price``.

    A model that is no language model tells its pace on a problem: ``prompt`` is one. Of a ladder it is what is known of
    its first model, which is the one that samples are drawn from.
    """
    if isinstance(model, Ladder):
        return await facts_of(model.members[0], uri, prompt)
    facts: dict[str, Any] = {"uri": uri, "parameters": getattr(model, "parameters", 0), "unit": "supervision step"}
    if hasattr(model, "unit_flops"):
        facts["unit_flops"] = model.unit_flops
    if isinstance(model, LanguageModel):
        traits, pace = model.engine.traits, await model.engine.pace()
        facts |= {"parameters": traits.parameters, "unit": "token"}
        if pace is not None:
            facts["pace"] = {"read_seconds": pace.read_seconds, "step_seconds": dict(pace.step_seconds)}
        if traits.price is not None:
            facts["price"] = asdict(traits.price)
        return facts
    session = await model.open(Problem.of(prompt), Meter())
    try:
        told = session.costs if isinstance(session, Costed) else ()
    finally:
        await session.aclose()
    if told and told[0] is not None and told[0].unit_seconds:
        facts["pace"] = {"read_seconds": 0.0, "step_seconds": dict(told[0].unit_seconds)}
    return facts
