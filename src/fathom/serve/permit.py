"""Which specs a client may write. A spec can name models by URI, servers, files and code; over HTTP it may name none of
them: what an operator wants to offer goes into the configuration under a name of its own.

An option is a client's to say where its values are numbers, flags, words of a closed list, or judges that are offered;
text only where its declaration says that it is harmless (``fathom.specs.option``). So what is new is closed until
somebody opens it. Ceilings hold for what a spec *builds*, however its numbers were written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from fathom.errors import one_of
from fathom.judges.base import Verifier
from fathom.judges.registry import JUDGES, make_judge
from fathom.search import STRATEGIES
from fathom.serve.config import Config, Limits
from fathom.serve.refusal import Refused
from fathom.specs import Entry, Registry, Spec, parse_pipeline, parse_spec

__all__ = ["permit_judge", "permit_strategy"]

BOUNDS: Mapping[str, str] = dict.fromkeys(("width", "wave", "branching", "parallel", "k", "of"), "width")
DEEP: Mapping[str, str] = dict.fromkeys(("depth", "at_least", "step_tokens", "units", "thinking", "window"), "depth")
SECONDS = 1.0  # that a judge may take for a candidate
MOST = 1000  # of any other number

_HARMLESS = (int, float, bool, NoneType, Verifier)


def permit_strategy(text: str, config: Config) -> None:
    """Raises Refused for a spec that a client may not write, SpecError for one that does not parse."""
    param = "fathom.strategy"
    for spec in parse_pipeline(text):
        if spec.name not in STRATEGIES and spec.name.replace("_", "-") not in STRATEGIES:
            known = [*(entry.name for entry in STRATEGIES), *config.strategies]
            raise Refused(400, one_of("strategy", spec.name, known), code="invalid_strategy", param=param)
        _permit(STRATEGIES, spec, config, param)
    _bound(_numbers(STRATEGIES, text), config.limits, param)


def permit_judge(text: str, config: Config) -> None:
    """The same for a verifier."""
    param = "fathom.verify"
    _permit_judge(parse_spec(text), config, param)
    _bound(_numbers(JUDGES, text), config.limits, param)


def _permit(registry: Registry[Any], spec: Spec, config: Config, param: str) -> None:
    """Whether its options are a client's to say; those that there are not are refused when it is built."""
    entry = registry.entry(spec.name)
    known = {f.name: f for f in entry.options}
    for name, value in spec.options.items():
        if name in known and name not in _sayable(entry):
            said = f"{spec.name}({name}=…) is not for clients to say; the operator can offer it under a name"
            raise Refused(400, said, code="not_permitted", param=param)
        if name in known and known[name].metadata.get("parse") is make_judge and isinstance(value, str | Spec):
            _permit_judge(parse_spec(value) if isinstance(value, str) else value, config, param)


def _permit_judge(spec: Spec, config: Config, param: str) -> None:
    name = spec.name.replace("_", "-")
    if name not in config.judges and spec.name not in config.judges:
        if name not in JUDGES and spec.name not in JUDGES:
            raise Refused(400, one_of("judge", spec.name, config.judges), code="invalid_strategy", param=param)
        said = f"the judge {spec.name!r} is not offered here; there are: {', '.join(config.judges)}"
        raise Refused(400, said, code="not_permitted", param=param)
    _permit(JUDGES, spec, config, param)


@lru_cache(maxsize=256)
def _sayable(entry: Entry[Any]) -> frozenset[str]:
    """The options that a client may say."""
    types = get_type_hints(entry.build)
    return frozenset(f.name for f in entry.options if f.metadata.get("harmless") or _closed(types[f.name]))


def _closed(type_: Any) -> bool:
    """Whether its values are numbers, flags, words of a list or judges, or several of these."""
    if get_origin(type_) is Literal:
        return True
    if parts := [part for part in get_args(type_) if part is not Ellipsis]:
        return all(map(_closed, parts))
    return type_ in _HARMLESS


Number = tuple[str, str, float]
"""What has an option, its name, and what it says."""


@lru_cache(maxsize=1024)
def _numbers(registry: Registry[Any], text: str) -> tuple[Number, ...]:
    """The numbers that a spec says, as they are built from it. Raises SpecError."""
    return tuple(number for spec in parse_pipeline(text) for number in _said(registry, registry.build(spec)))


def _said(registry: Registry[Any], built: Any) -> Iterator[Number]:
    """Those that are not as by default, which is the operator's to allow; of a judge inside too."""
    for f in fields(built):
        value = getattr(built, f.name)
        if value == f.default or f.metadata.get("harmless"):
            continue
        for leaf in value if isinstance(value, tuple | list) else (value,):
            if is_dataclass(leaf):
                yield from _said(JUDGES, leaf)
            elif isinstance(leaf, int | float):
                yield registry.spec_of(built).name, f.name, leaf


def _bound(numbers: tuple[Number, ...], limits: Limits, param: str) -> None:
    for where, name, value in numbers:
        most = _most(name, limits)
        if not value <= most:
            said = f"{where}({name}={str(value)[:40]}): at most {most:g}"
            raise Refused(400, said, code="invalid_limit", param=param)


def _most(name: str, limits: Limits) -> float:
    if name in BOUNDS:
        return limits.width
    return limits.depth if name in DEEP else SECONDS if name == "seconds" else MOST
