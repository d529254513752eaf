"""The gateway's one file, in TOML: models, keys, limits. It is checked whole before anything is opened, and what is
wrong in it is told with its line. Secrets do not stand in it: keys of upstreams are named by environment variable, keys
of clients by their hash.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from fathom.errors import FathomError, InputError, UsageError, one_of
from fathom.serve.wire import AnswerForm, Effort
from fathom.specs import parse_pipeline

__all__ = ["Config", "EffortEntry", "KeyEntry", "Limits", "ModelEntry", "PriceEntry", "check", "read_config"]

T = TypeVar("T")

Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
Path_ = tuple[str | int, ...]

SAFE_JUDGES = ("agreement", "arithmetic", "exact", "llm", "logprob", "regex", "self-certainty")
"""Those that run no code, open no file and load no other model."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file: what it does not know, it refuses."""


class Limits(Entry, frozen=True):
    """What no request may go beyond, and how many may run and wait.

    ``seconds`` ends every request, whatever it asks for. ``depth`` bounds the tokens of one trajectory, and of a plain
    completion; ``tokens`` all that a request generates. ``drain`` are the seconds that running requests get to end
    after SIGTERM.
    """

    body_bytes: Count = 2 << 20
    messages: Count = 1024
    n: Count = 16
    width: Count = 64
    depth: Count = 4096
    tokens: Count = 200_000
    seconds: Positive = 300.0
    cost: Positive | None = None
    concurrent: Count = 256
    queue: Annotated[int, Meta(ge=0)] = 1024
    drain: Annotated[float, Meta(ge=0)] = 30.0


class EffortEntry(Entry, frozen=True):
    """What an effort may spend; the names are those of a budget. With nothing set it is the plain completion."""

    within: str | float | None = None
    tokens: Count | None = None
    width: Count | None = None
    depth: Annotated[int, Meta(ge=0)] | None = None
    cost: Positive | None = None
    strategy: str | None = None


class PriceEntry(Entry, frozen=True):
    """US dollars per million tokens."""

    prompt: Annotated[float, Meta(ge=0)] = 0.0
    completion: Annotated[float, Meta(ge=0)] = 0.0


class ModelEntry(Entry, frozen=True):
    """A model that is served: what it is opened from, and what requests get that do not say.

    ``strategy`` is what they get, by default the plain completion. ``api_key_env`` names the environment variable with
    the upstream's key. ``efforts`` change what ``reasoning_effort`` means for this model; what they do not say goes by
    the model's profile: that of a file, or the latest that `fathom calibrate` has kept. ``hedge`` is the share of the
    requests to an upstream that are sent twice, where the first keeps waiting; 0 is none.
    """

    uri: str = "embedded"
    api_key_env: str | None = None
    strategy: str | None = None
    form: AnswerForm = "short"
    price: PriceEntry | None = None
    efforts: dict[Effort, EffortEntry] = {}
    profile: str | None = None
    max_concurrency: Count | None = None
    timeout: Positive | None = None
    hedge: Annotated[float, Meta(ge=0, le=0.5)] = 0.05


class KeyEntry(Entry, frozen=True):
    """A client: its name for logs and metrics, the SHA-256 of its key, and what it may use."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-fA-F]{64}$")]
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None

    def __repr__(self) -> str:
        return f"KeyEntry({self.name!r}, sha256='***')"


class Config(Entry, frozen=True):
    """All of it. ``strategies`` are further names that clients can use, for specs that they may not write themselves;
    ``judges`` are those that they may name. ``open`` allows serving others without keys. ``workers`` are processes
    behind the one port. ``log`` tells every request, ``log_prompts`` what it asks, and ``otel`` sends spans to where
    the environment's ``OTEL_EXPORTER_OTLP_ENDPOINT`` says.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    open: bool = False
    workers: Count = 1
    log: bool = False
    log_prompts: bool = False
    playground: bool = True
    otel: bool = False
    hosts: list[str] = []
    limits: Limits = Limits()
    models: dict[str, ModelEntry] = msgspec.field(default_factory=lambda: {"embedded": ModelEntry()})
    keys: list[KeyEntry] = []
    strategies: dict[str, str] = {}
    judges: list[str] = msgspec.field(default_factory=lambda: list(SAFE_JUDGES))

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def read_config(path: Path) -> Config:
    """From a file. Raises InputError with the file's name and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: {error}") from None
    try:
        config = _converted(data)
        check(config)
    except _Wrong as wrong:
        raise InputError(f"{path}, line {line_of(text, wrong.path)}: {wrong}") from None
    return config


def check(config: Config) -> None:
    """What types alone do not tell. Raises UsageError that says where."""
    from fathom.api import strategy_of
    from fathom.judges.registry import JUDGES

    if not config.models:
        raise _Wrong('no models: add a table such as [models.small] with uri = "embedded"', ("models",))
    if not config.local and not config.keys and not config.open:
        raise _Wrong(
            f"{config.host} can be reached by others, and there are no keys: add [[keys]] (`fathom serve "
            "--new-key NAME` makes one), or say open = true",
            ("host",),
        )
    for name in config.judges:
        if name not in JUDGES:
            raise _Wrong(one_of("judge", name, (entry.name for entry in JUDGES)), ("judges",))
    specs: list[tuple[str, Path_]] = [(spec, ("strategies", name)) for name, spec in config.strategies.items()]
    for name, model in config.models.items():
        variable = model.api_key_env
        if variable is not None and not os.environ.get(variable):
            raise _Wrong(f"the environment variable {variable} is not set", ("models", name, "api_key_env"))
        given: list[tuple[str | None, Path_]] = [(model.strategy, ("models", name, "strategy"))]
        given += [(e.strategy, ("models", name, "efforts", effort, "strategy")) for effort, e in model.efforts.items()]
        specs += [(spec, path) for spec, path in given if spec is not None and spec not in config.strategies]
    for spec, path in specs:
        try:
            parse_pipeline(spec)
            strategy_of(spec)
        except FathomError as error:
            raise _Wrong(str(error), path) from None
    for name, count in _counted(key.name for key in config.keys).items():
        if count > 1:
            raise _Wrong(f"two keys are named {name!r}", ("keys",))


def _counted(names: Iterator[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return found


class _Wrong(UsageError):
    """What is wrong, and where in the file."""

    def __init__(self, message: str, path: Path_) -> None:
        super().__init__(message)
        self.path = path


_AT = re.compile(r" - at (?:`key` in )?`\$?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`|enum value '([^']*)' - at `key`")


def _convert(data: Any, type_: type[T], path: Path_) -> T:
    try:
        return msgspec.convert(data, type_)
    except msgspec.ValidationError as error:
        said = str(error)
        at = _AT.search(said)
        steps = re.findall(r"[\w-]+|\.\.\.", at["path"]) if at else []
        inner = [int(step) if step.isdigit() else step for step in steps]
        unknown = _UNKNOWN.search(said)
        where: Path_ = (*path, *inner, *([unknown[1] or unknown[2]] if unknown else []))
        name = ".".join("*" if step == "..." else str(step) for step in where)
        raise _Wrong(f"{name}: {_AT.sub('', said)}", where) from None


def _converted(data: Mapping[str, Any]) -> Config:
    """Table by table, so that an error knows the name of its table."""
    rest = {key: value for key, value in data.items() if key not in ("models", "keys")}
    config = _convert(rest, Config, ())
    found: dict[str, Any] = {}
    for name, kind, entry in (("models", dict, ModelEntry), ("keys", list, KeyEntry)):
        if name not in data:
            continue
        table = data[name]
        if not isinstance(table, kind):
            raise _Wrong(f"{name} must be written as {'[models.NAME]' if kind is dict else '[[keys]]'}", (name,))
        if isinstance(table, Mapping):
            found[name] = {key: _convert(value, entry, (name, key)) for key, value in table.items()}
        else:
            found[name] = [_convert(value, entry, (name, index)) for index, value in enumerate(table)]
    return msgspec.structs.replace(config, **found)


_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The line, counted from 1, on which a value stands: that of the nearest table or key on the way to it.

    A step ``"..."`` of the path stands for any name.
    """
    best, best_line = 0, 1
    table: tuple[str | int, ...] = ()
    counts: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        here: tuple[str | int, ...] | None = None
        if (header := _HEADER.match(line)) is not None:
            names = _names(header[2])
            table = names
            if header[1] == "[[":
                counts[names] = counts.get(names, -1) + 1
                table = (*names, counts[names])
            here = table
        elif (key := _KEY.match(line)) is not None:
            here = (*table, *_names(key[1]))
        if (
            here is not None
            and best < len(here) <= len(path)
            and all(want in ("...", step) for want, step in zip(path, here, strict=False))
        ):
            best, best_line = len(here), number
    return best_line


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(name.strip().strip("\"'") for name in re.findall(r"""[\w-]+|"[^"]*"|'[^']*'""", dotted))
