"""Datasets by their specs."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fathom.errors import InputError, MissingDependency, SpecError, one_of
from fathom.lab.datasets.base import Dataset
from fathom.lab.datasets.files import from_csv, from_jsonl, from_rows

__all__ = ["DATASETS", "load_dataset"]

DATASETS: Mapping[str, str] = {
    "PATH.jsonl": "JSON lines with question, answer and, optionally, id",
    "PATH.csv": "the same as columns",
    "arithmetic[:N]": "sums, differences and products of two-digit numbers, generated",
    "reasoning-gym:NAME[(options)]": "a generator of the package reasoning-gym, with its verifier",
    "human-eval": "164 programming problems; the hidden tests decide",
    "hf:NAME[@SPLIT]": "a Hugging Face dataset with columns question and answer",
    "recursive:TASK": "held-out puzzles of a recursive model's task; the constraints decide",
}
"""The forms of a spec, and what each stands for."""

COUNT = 100
"""Questions that are generated where no number is given."""


def load_dataset(spec: str, *, questions: int | None = None, seed: int = 0, skip_bad: bool = False) -> Dataset:
    """The dataset of that spec; its first ``questions``, where given. ``seed`` is for those that are generated.

    Raises InputError for rows that do not parse (unless ``skip_bad``) and for a spec that names nothing,
    MissingDependency where a package is needed.
    """
    if questions is not None and questions < 1:
        raise InputError(f"a dataset needs at least one question, not {questions}")
    found = _load(spec, questions, seed, skip_bad)
    return found if questions is None else replace(found, questions=found.questions[:questions])


def _load(spec: str, count: int | None, seed: int, skip_bad: bool) -> Dataset:
    kind, colon, rest = spec.partition(":")
    match kind:
        case "arithmetic":
            from fathom.lab.datasets.generated import arithmetic

            if colon and not (rest.isascii() and rest.isdigit() and 0 < int(rest) <= 10**6):
                raise SpecError(f"arithmetic:N needs a number of questions, not {rest!r}")
            return arithmetic(int(rest) if colon else count or COUNT, seed)
        case "reasoning-gym" if rest:
            from fathom.lab.datasets.gym import reasoning_gym

            return reasoning_gym(rest, count or COUNT, seed)
        case "human-eval":
            from fathom.lab.datasets.generated import human_eval

            return human_eval()
        case "hf" if rest:
            return _hugging_face(rest, count, skip_bad)
        case "recursive" if rest:
            from fathom.lab.datasets.puzzles import puzzles

            return puzzles(rest)
    path = Path(spec)
    if path.suffix in (".jsonl", ".json"):
        return from_jsonl(path, skip_bad)
    if path.suffix == ".csv":
        return from_csv(path, skip_bad)
    raise InputError(one_of("dataset", spec, DATASETS))


def _hugging_face(rest: str, count: int | None, skip_bad: bool) -> Dataset:
    """Rows of a Hugging Face dataset, ``NAME[@SPLIT]``; what it takes to get it is the package's own affair."""
    if find_spec("datasets") is None:
        raise MissingDependency("datasets", "datasets", "a dataset of Hugging Face")
    name, _, split = rest.partition("@")
    try:
        rows: Any = importlib.import_module("datasets").load_dataset(name, split=split or "test")
    except Exception as error:  # the package raises of all kinds: no such name, no network, no such split
        raise InputError(f"hf:{rest}: {type(error).__name__}: {str(error)[:300]}") from None
    return from_rows(f"hf:{rest}", itertools.islice(enumerate(rows, 1), count), skip_bad)
