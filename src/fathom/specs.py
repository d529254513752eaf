"""Spec strings and the registries that build things from them: one way to name strategies, judges and their options.

``best-of-n(width=16, judge=tests(timeout=2s))`` is a *spec*: a name, and options that are numbers, words, quoted text,
lists or specs again. ``vote(width=8) | refine(judge=tests)`` is a pipeline of specs. The same strings are understood by
the library, the command line, the gateway and sweep files. What can be named is registered as a frozen dataclass: its
fields are the options, with their types and defaults, and ``option`` adds what help texts say about them.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import lru_cache
from typing import Any, Generic, TypeVar, cast, get_type_hints

import msgspec

from fathom.errors import SpecError, UsageError, one_of

__all__ = ["Entry", "Registry", "Spec", "option", "parse_pipeline", "parse_spec"]

T = TypeVar("T")

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<mark>[()\[\],=|])|(?P<word>[^\s()\[\],=|"']+))"""
)
_ESCAPED = re.compile(r"\\([\\\"'])")  # any other backslash is itself, as those of patterns are
_CONSTANTS: Mapping[str, Any] = {"true": True, "false": False, "none": None}
_MAX_LENGTH = 10_000
_MAX_NESTING = 16


@dataclass(frozen=True)
class Spec:
    """A name with options, e.g. ``vote(width=8)``. ``str`` writes it so that it parses to the same again."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        inner = ", ".join(f"{key}={_write(value)}" for key, value in self.options.items())
        return f"{self.name}({inner})" if inner else self.name


def _write(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_write, value)) + "]"
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z_][\w.:/@-]*", value) and isinstance(_literal(value), str)  # inf is a number
        return value if plain else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


class _Parser:
    """Recursive descent over the tokens of one spec string."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str, int]] = []
        if len(text) > _MAX_LENGTH:
            raise SpecError(f"a spec string may have {_MAX_LENGTH} characters, not {len(text)}")
        end = 0
        while text[end:].strip():
            match = _TOKEN.match(text, end)
            if match is None:
                raise self.error("a quotation mark that is not closed", end)
            kind = str(match.lastgroup)
            self.tokens.append((kind, match[kind], match.start(kind)))
            end = match.end()
        self.at = 0

    def error(self, what: str, position: int | None = None) -> SpecError:
        if position is None:
            position = self.tokens[self.at][2] if self.at < len(self.tokens) else len(self.text)
        return SpecError(f"cannot read {self.text!r}: {what} at character {position + 1}")

    def peek(self, mark: str) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at][:2] == ("mark", mark)

    def take(self, mark: str) -> bool:
        if self.peek(mark):
            self.at += 1
            return True
        return False

    def expect(self, mark: str) -> None:
        if not self.take(mark):
            raise self.error(f"expected {mark!r}")

    def word(self, what: str) -> str:
        if self.at >= len(self.tokens) or self.tokens[self.at][0] != "word":
            raise self.error(f"expected {what}")
        self.at += 1
        return self.tokens[self.at - 1][1]

    def spec(self, depth: int = 0) -> Spec:
        if depth > _MAX_NESTING:
            raise self.error(f"more than {_MAX_NESTING} nested specs")
        name = self.word("a name")
        options: dict[str, Any] = {}
        if self.take("("):
            while not self.take(")"):
                key = self.word("an option's name").replace("-", "_")
                self.expect("=")
                if key in options:
                    raise self.error(f"the option {key!r} is given twice")
                options[key] = self.value(depth + 1)
                if not self.take(","):
                    self.expect(")")
                    break
        return Spec(name, options)

    def value(self, depth: int) -> Any:
        if depth > _MAX_NESTING:
            raise self.error(f"more than {_MAX_NESTING} nested values")
        if self.take("["):
            items: list[Any] = []
            while not self.take("]"):
                items.append(self.value(depth + 1))
                if not self.take(","):
                    self.expect("]")
                    break
            return items
        if self.at < len(self.tokens) and self.tokens[self.at][0] == "text":
            self.at += 1
            return _ESCAPED.sub(r"\1", self.tokens[self.at - 1][1][1:-1])
        if self.at + 1 < len(self.tokens) and self.tokens[self.at + 1][:2] == ("mark", "("):
            return self.spec(depth)
        return _literal(self.word("a value"))


def _literal(word: str) -> Any:
    if word.lower() in _CONSTANTS:
        return _CONSTANTS[word.lower()]
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def parse_spec(text: str) -> Spec:
    """One spec from text. Raises SpecError that says what was wrong and where."""
    specs = parse_pipeline(text)
    if len(specs) != 1:
        raise SpecError(f"expected one spec, not a pipeline: {text!r}")
    return specs[0]


@lru_cache(maxsize=1024)
def parse_pipeline(text: str) -> tuple[Spec, ...]:
    """``a | b | c`` from text; a single spec is a pipeline of one. Raises SpecError."""
    parser = _Parser(text)
    specs = [parser.spec()]
    while parser.take("|"):
        specs.append(parser.spec())
    if parser.at != len(parser.tokens):
        raise parser.error("unexpected text")
    return tuple(specs)


def option(
    default: Any = MISSING, help: str = "", *, parse: Callable[[Any], Any] | None = None, harmless: bool = False
) -> Any:
    """A field of a registered dataclass: its default, what it means, and how to read it where types don't tell.

    Text can name a file, a server, a model or code, so a gateway lets no stranger write it, but for what is
    ``harmless``: text that is only ever compared or matched.
    """
    metadata = {"help": help, "parse": parse, "harmless": harmless}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Entry(Generic[T]):
    """Something registered: the dataclass that builds it, a line of help, and the paper or rule that it follows."""

    name: str
    build: type[T]
    summary: str
    source: str

    @property
    def options(self) -> tuple[Field[Any], ...]:
        return fields(self.build)  # type: ignore[arg-type]


class Registry(Generic[T]):
    """Names to frozen dataclasses. ``what`` is the word for them in messages, e.g. ``"strategy"``.

    ``modules`` register things when they are imported, which happens when the registry is first asked.
    """

    def __init__(self, what: str, modules: Sequence[str] = ()) -> None:
        self.what = what
        self._modules = list(modules)
        self._registered: dict[str, Entry[T]] = {}

    @property
    def _entries(self) -> dict[str, Entry[T]]:
        self.load()
        return self._registered

    def load(self) -> None:
        """Import the modules now, rather than when the registry is first asked."""
        while self._modules:
            importlib.import_module(self._modules.pop())

    def register(self, name: str, *, source: str = "") -> Callable[[type[T]], type[T]]:
        """Class decorator. The first line of the class's docstring becomes its summary; ``str`` writes its spec."""

        def add(build: type[T]) -> type[T]:
            summary = (build.__doc__ or "").strip().splitlines()[0].rstrip(".")
            self._registered[name] = Entry(name, build, summary, source)
            if build.__str__ is object.__str__:
                build.__str__ = lambda built: str(self.spec_of(cast(T, built)))  # type: ignore[method-assign]
            return build

        return add

    def __iter__(self) -> Iterator[Entry[T]]:
        return iter(self._entries[name] for name in sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def entry(self, name: str) -> Entry[T]:
        """What is registered under a name. Raises SpecError."""
        found = self._entries.get(name) or self._entries.get(name.replace("_", "-"))
        if found is None:
            raise SpecError(one_of(self.what, name, self._entries))
        return found

    def spec_of(self, built: T) -> Spec:
        """The spec that builds an equal object: its name, and the options that are not as by default."""
        entry = next(entry for entry in self._registered.values() if entry.build is type(built))
        given = ((f.name, getattr(built, f.name)) for f in entry.options if getattr(built, f.name) != f.default)
        return Spec(entry.name, dict(given))

    def build(self, spec: str | Spec) -> T:
        """Build what the spec names. Raises SpecError for an unknown name or option, or a value that does not fit."""
        spec = parse_spec(spec) if isinstance(spec, str) else spec
        entry = self.entry(spec.name)
        known = {f.name: f for f in entry.options}
        types = get_type_hints(entry.build)
        values = {}
        for key, value in spec.options.items():
            if key not in known:
                raise SpecError(f"{entry.name}: " + one_of("option", key, known))
            values[key] = _convert(f"{entry.name}({key}=…)", value, known[key], types[key])
        missing = [
            f.name
            for f in known.values()
            if f.name not in values and f.default is MISSING and f.default_factory is MISSING
        ]
        if missing:
            raise SpecError(f"{entry.name} needs the option {missing[0]!r}, e.g. {entry.name}({missing[0]}=…)")
        return entry.build(**values)


def _convert(where: str, value: Any, of: Field[Any], type_: Any) -> Any:
    parse = of.metadata.get("parse")
    try:
        if parse is not None:
            return parse(value)
        return msgspec.convert(value, type_, strict=False)
    except (msgspec.ValidationError, UsageError) as error:
        raise SpecError(f"{where}: {error}, given {_write(value) if not isinstance(value, Spec) else value}") from None
