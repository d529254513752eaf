"""Which specs a client may write. A spec can name models by URI, servers, files and code; over HTTP it may name none of
them: what an operator wants to offer goes into the configuration under a name of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from fathom.errors import one_of
from fathom.judges.registry import JUDGES
from fathom.search import STRATEGIES
from fathom.serve.config import Config, Limits
from fathom.serve.refusal import Refused
from fathom.specs import Spec, parse_pipeline

__all__ = ["permit_judge", "permit_strategy"]

ELSEWHERE = frozenset({"model", "models", "server", "function", "code"})
"""Options that lead out of the gateway."""

BOUNDS: Mapping[str, str] = dict.fromkeys(("width", "wave", "branching", "parallel", "k", "of"), "width")
DEEP: Mapping[str, str] = dict.fromkeys(("depth", "at_least", "step_tokens", "units", "thinking", "window"), "depth")
MOST = 1000  # of any other whole number


def permit_strategy(text: str, config: Config) -> None:
    """Raises Refused for a spec that a client may not write, SpecError for one that does not parse."""
    for spec in _parsed(text):
        _check(spec, config, "fathom.strategy")
        if spec.name not in STRATEGIES and spec.name.replace("_", "-") not in STRATEGIES:
            known = [*(entry.name for entry in STRATEGIES), *config.strategies]
            raise Refused(400, one_of("strategy", spec.name, known), code="invalid_strategy", param="fathom.strategy")


def permit_judge(text: str, config: Config) -> None:
    """The same for a verifier."""
    for spec in _parsed(text):
        _check(spec, config, "fathom.verify")
        _permit_name(spec.name, config, "fathom.verify")


@lru_cache(maxsize=1024)
def _parsed(text: str) -> tuple[Spec, ...]:
    return parse_pipeline(text)


def _check(spec: Spec, config: Config, param: str) -> None:
    for name, value in spec.options.items():
        if name in ELSEWHERE:
            raise Refused(
                403,
                f"{spec.name}({name}=…) is not for clients to say; the operator can offer it under a name",
                code="not_permitted",
                param=param,
            )
        if name == "judge":
            _permit_name(value.name if isinstance(value, Spec) else str(value), config, param)
        for leaf in _leaves(value):
            if isinstance(leaf, Spec):
                _check(leaf, config, param)
            elif isinstance(leaf, int | float) and not leaf <= _most(name, config.limits):
                most = _most(name, config.limits)
                raise Refused(400, f"{spec.name}({name}={leaf}): at most {most}", code="invalid_limit", param=param)


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _most(name: str, limits: Limits) -> int:
    if name in BOUNDS:
        return limits.width
    return limits.depth if name in DEEP else MOST


def _permit_name(name: str, config: Config, param: str) -> None:
    if name.replace("_", "-") not in config.judges and name not in config.judges:
        if name not in JUDGES:
            raise Refused(400, one_of("judge", name, config.judges), code="invalid_strategy", param=param)
        raise Refused(
            403,
            f"the judge {name!r} is not offered here; there are: {', '.join(config.judges)}",
            code="not_permitted",
            param=param,
        )
