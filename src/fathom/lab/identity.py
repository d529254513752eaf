"""What makes trajectories belong together: the model and its file, the engine, the sampling, the words, the questions.

Also what is to be known of a model when its trajectories are read without it: its size, pace and price.
"""

from __future__ import annotations

import hashlib
import json
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
from fathom.language.model import LanguageModel
from fathom.language.prompts import FORMS
from fathom.reasoner import Reasoner
from fathom.records import Problem
from fathom.uris import ModelURI

__all__ = ["facts_of", "hash_of", "terms_of"]


def hash_of(uri: str) -> str:
    """The sha256 of the file that a model's URI leads to; empty for a server, whose file nobody sees."""
    named = ModelURI.parse(uri)
    if not named.kind:
        return CATALOGUE[named.place].sha256 if named.place in CATALOGUE else ""
    if named.kind == "recursive":
        from fathom.recursive.library import find_checkpoint

        return _digest(find_checkpoint(named.place))
    return _digest(Path(named.place)) if named.kind == "gguf" else ""


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from None


def terms_of(model: Reasoner, uri: str, dataset: Dataset, seed: int) -> Terms:
    """The terms of a sweep of this model on this dataset."""
    engine, sampling, prompts = f"fathom {fathom.__version__}", "", ""
    if isinstance(model, LanguageModel):
        traits = model.engine.traits
        engine = f"{traits.model} {traits.version}".strip()
        chosen = {
            name: value for name, value in asdict(model.sampling).items() if value not in (None, (), {}, False, 0)
        }
        sampling = json.dumps(chosen, sort_keys=True)
        prompts = f"{model.form} {hashlib.sha256(repr(FORMS[model.form]).encode()).hexdigest()[:16]}"
    return Terms(
        model=model.name,
        model_hash=hash_of(uri),
        engine=engine,
        sampling=sampling,
        prompts=prompts,
        dataset=dataset.name,
        seed=seed,
    )


async def facts_of(model: Reasoner, uri: str, prompt: str) -> dict[str, Any]:
    """What is known of the model: its ``unit`` of depth, ``parameters``, and where they are, ``pace``, ``price``.

    A model that is no language model tells its pace on a problem: ``prompt`` is one.
    """
    facts: dict[str, Any] = {"uri": uri, "parameters": 0, "unit": "supervision step"}
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
