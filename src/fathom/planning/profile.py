"""A profile: what was measured of one model on one kind of question, on one engine and machine; what plans rest on.

It is a JSON file that names what it belongs to. Made for another model or engine it is refused; made on another machine
its accuracies hold and its times do not, which is used with a warning. One that is found and not named is used for the
kind of answer that it was made on, one that is named for every kind, with a warning.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from fathom.costs import Costs
from fathom.errors import FathomError, InputError, UsageError
from fathom.language.catalogue import CATALOGUE
from fathom.language.download import cache_directory
from fathom.language.engines.pace import machine
from fathom.planning.ability import Ability, Measured
from fathom.planning.cost import Sample, fitted
from fathom.planning.population import Kind, Population

__all__ = ["Fitted", "Profile", "Spread", "digest_of", "fit", "kept_profile", "load", "profile_directory", "save"]

VERSION = 1
LIKELIEST = 16
"""Samples that the greedy answer is worth at most."""
_PLAIN = ("direct", "first")  # that need nothing of the engine that a run would have to ask for


class Spread(msgspec.Struct, frozen=True):
    """How answers fall at a depth (None: at the chains' own end): kinds of question as (weight, right, rival)."""

    depth: int | None
    kinds: tuple[tuple[float, float, float], ...]


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Curves, costs, and whose they are. ``curves`` hold every strategy that was scored, voting included.

    ``spreads`` are the populations at the depths that were replayed; ``samples`` are (width, depth, seconds). ``kind``
    is that of the answers, as in `Costs`; older profiles do not tell it.
    """

    version: int = VERSION
    model: str
    digest: str = ""
    engine: str = ""
    machine: dict[str, Any]
    dataset: str
    kind: str = ""
    questions: int
    made: str = ""
    depth: float
    samples: tuple[tuple[int, int, float], ...] = ()
    spreads: tuple[Spread, ...]
    curves: tuple[Measured, ...] = ()

    @property
    def label(self) -> str:
        return f"the profile of {self.model} on {self.dataset}, {self.questions} questions"

    def difficulty(self, first: int = 4, width: int = 16) -> list[tuple[int, float, float, float]]:
        """What the agreement of the first samples tells: for each number of votes of the leader among ``first``, how
        often it occurs, how likely the leader is right then, and how likely after ``width``."""
        return self.ability.population(1.0).agreement(first, width)

    @property
    def ability(self) -> Ability:
        return _ability(self.spreads, self.curves, self.depth, self.questions, self.label)

    def costs(self, costs: Costs, *, same_machine: bool) -> Costs:
        """The session's own account, with the times of this profile where it tells none."""
        if costs.unit_seconds or not same_machine:
            return costs
        return fitted(costs, [Sample(*sample) for sample in self.samples])


@lru_cache(maxsize=64)
def _ability(
    spreads: tuple[Spread, ...], curves: tuple[Measured, ...], depth: float, questions: int, label: str
) -> Ability:
    by_depth = {math.inf if spread.depth is None else float(spread.depth): spread.kinds for spread in spreads}
    depths = tuple(sorted(by_depth))
    last = max(1, len(depths) - 1)
    populations = [Population(tuple(Kind(*kind) for kind in by_depth[d])) for d in depths]
    likeliest = _likeliest(populations[-1], curves) if populations else 1
    return Ability(
        tuple((at / last, replace(population, likeliest=likeliest)) for at, population in enumerate(populations)),
        questions,
        label,
        others=tuple(curve for curve in curves if curve.strategy.partition("(")[0] in _PLAIN),
        depths=depths,
        usual=max(1.0, depth),
    )


def _likeliest(population: Population, curves: Sequence[Measured]) -> int:
    """How many samples' vote the greedy answer was found to be worth, at the chains' own end; 1 where it was not
    measured."""
    found = [curve.accuracy for curve in curves if curve.strategy == "direct"]
    return max((n for n in range(1, LIKELIEST + 1) if found and population.accuracy(n) <= found[0]), default=1)


@dataclass(frozen=True)
class Fitted:
    """A profile held against a model: usable, with what a person has to know."""

    profile: Profile
    same_machine: bool
    same_kind: bool = True

    @property
    def notes(self) -> tuple[str, ...]:
        said = []
        if not self.same_machine:
            made_on = self.profile.machine.get("cpu", "another machine")
            said.append(f"another machine ({made_on}); its accuracies are used, not its times")
        if not self.same_kind:
            said.append(f"questions of another kind ({self.profile.dataset}, answers: {self.profile.kind})")
        return tuple(f"WARNING: the profile was made on {one}" for one in said)


def digest_of(costs: Costs) -> str:
    """The hash of the model's file, where it is one that Fathom knows; else what tells models apart."""
    for entry in CATALOGUE.values():
        if costs.model in (entry.name, entry.file_name.removesuffix(".gguf")):
            return f"sha256:{entry.sha256}"
    return f"parameters:{costs.parameters}" if costs.parameters else ""


def fit(profile: Profile, costs: Costs) -> Fitted:
    """Hold a profile against the model that is to be planned for. Raises UsageError where it belongs to another."""
    mine = {"model": costs.model, "digest": digest_of(costs), "engine": costs.engine}
    for what, here in mine.items():
        there = getattr(profile, what)
        if here != there and (what == "model" or (here and there)):
            raise UsageError(
                f"this profile was made for the {what} {there!r}, and this is {here!r}; make one for it with "
                f"`fathom calibrate`"
            )
    same_kind = profile.kind == costs.kind or not (profile.kind and costs.kind)
    return Fitted(profile, profile.machine == machine(), same_kind)


def load(path: str | Path) -> Profile:
    """A profile from a file. Raises InputError where it cannot be read or is none."""
    try:
        found = msgspec.json.decode(Path(path).read_bytes(), type=Profile)
        found.ability  # noqa: B018  (what cannot be planned with is refused here)
    except OSError as error:
        raise InputError(f"cannot read the profile {path}: {error.strerror or error}") from None
    except (msgspec.MsgspecError, ValueError, IndexError) as error:
        raise InputError(f"{path} is no profile: {error}") from None
    if found.version != VERSION:
        raise InputError(f"{path} is a profile of version {found.version}; this is for version {VERSION}: make it anew")
    if not found.spreads:
        raise InputError(f"{path} says nothing of how answers fall: make it anew with `fathom calibrate`")
    return found


def save(profile: Profile, path: str | Path | None = None) -> Path:
    """Write a profile, whole or not at all; by default to where ``auto`` finds it. Raises FathomError."""
    path = (
        Path(path) if path is not None else profile_directory() / _name(profile.model, profile.engine, profile.dataset)
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, suffix=".part", delete=False) as file:
            file.write(msgspec.json.format(msgspec.json.encode(profile), indent=1))
        os.replace(file.name, path)
    except OSError as error:
        raise FathomError(f"cannot write the profile {path}: {error.strerror or error}") from None
    return path


def profile_directory() -> Path:
    return cache_directory() / "profiles"


def _name(model: str, engine: str, dataset: str) -> str:
    said = hashlib.sha256(dataset.encode()).hexdigest()[:8]
    return f"{_prefix(model, engine)}{said}.json"


def _prefix(model: str, engine: str) -> str:
    return hashlib.sha256(msgspec.json.encode([model, engine])).hexdigest()[:16] + "-"


def kept_profile(costs: Costs) -> Fitted | None:
    """The latest profile in the cache directory that belongs to this model, engine and kind of answer, if there is
    one."""
    prefix = _prefix(costs.model, costs.engine)
    found: Sequence[Path] = []
    with contextlib.suppress(OSError):
        found = sorted(profile_directory().glob(f"{prefix}*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found:
        with contextlib.suppress(UsageError):
            held = fit(_loaded(path, path.stat().st_mtime_ns), costs)
            if held.same_kind:
                return held
    return None


@lru_cache(maxsize=16)
def _loaded(path: Path, changed: int) -> Profile:
    return load(path)
