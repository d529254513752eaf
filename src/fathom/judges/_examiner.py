"""Examines a program inside the sandbox: the candidate in one process, the tests in another, plain data in between.

The candidate's process is forked before the tests are read, so it can neither see them nor reach where results are
told, and what it returns comes back as plain data, so an object that claims to equal everything does not. To exit, to
print "passed", or to patch the interpreter therefore helps nobody. The tests see each function of the candidate as
a function that calls across; arguments that it changes in place are changed on this side too. What decides stays the
tests' own: no name of the candidate's takes the place of the examiner's or of a builtin, but for the one asked for.

`unit_tests.py` runs this file as the sandbox's program, with a call of `main` appended; the cases come on standard
input as JSON, a list of sources, each to run by itself. Each is answered by a line, ``[true, ""]`` or ``[false, why]``.
"""

from __future__ import annotations

import builtins
import json
import math
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

MAX_MESSAGE = 8 * 2**20
MAX_REASON = 300


class Gone(BaseException):
    """The candidate's process has ended, or talks nonsense; no test may take this for an ordinary exception."""


def encode(value: Any) -> Any:
    """Plain data as JSON that keeps its types. TypeError for anything else."""
    if value is None or isinstance(value, bool | str | int | float):
        return value
    for tag, kind in (("l", list), ("t", tuple), ("s", set), ("f", frozenset)):
        if isinstance(value, kind):
            return {tag: [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"d": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, bytes):
        return {"b": value.hex()}
    if isinstance(value, complex):
        return {"c": [value.real, value.imag]}
    if isinstance(value, range):
        return {"r": [value.start, value.stop, value.step]}
    raise TypeError(f"a {type(value).__name__} cannot be compared; tests see numbers, texts and collections of them")


def decode(message: Any) -> Any:
    if not isinstance(message, dict):
        return message
    ((tag, inner),) = message.items()
    makers: dict[str, Callable[[Any], Any]] = {
        "l": lambda items: [decode(item) for item in items],
        "t": lambda items: tuple(decode(item) for item in items),
        "s": lambda items: {decode(item) for item in items},
        "f": lambda items: frozenset(decode(item) for item in items),
        "d": lambda pairs: {decode(key): decode(item) for key, item in pairs},
        "b": bytes.fromhex,
        "c": lambda parts: complex(*parts),
        "r": lambda parts: range(*parts),
    }
    return makers[tag](inner)


class Line:
    """Messages over a pair of pipes, one a line."""

    def __init__(self, read: int, write: int) -> None:
        self.reader, self.writer = os.fdopen(read, "rb"), os.fdopen(write, "wb")

    def send(self, message: Any) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")
        self.writer.flush()

    def receive(self) -> Any:
        line = self.reader.readline(MAX_MESSAGE)
        if not line.endswith(b"\n"):
            raise Gone("the program ended" if not line else "it returned too much")
        return json.loads(line)


def serve(source: str, line: Line) -> None:
    """The candidate's process: runs its source, tells the names that it defines, and answers calls."""
    namespace: dict[str, Any] = {"__name__": "candidate"}
    try:
        exec(compile(source, "candidate.py", "exec"), namespace)
    except BaseException as error:
        line.send(["raised", type(error).__name__, str(error)[:MAX_REASON]])
        return
    functions = [name for name, value in namespace.items() if callable(value) and name != "__builtins__"]
    constants = {}
    for name, value in namespace.items():
        try:
            constants[name] = encode(value)
        except (TypeError, RecursionError):
            continue
    line.send(["defined", functions, constants])
    while True:
        name, arguments, keywords = line.receive()
        arguments, keywords = decode(arguments), decode(keywords)
        try:
            value = namespace[name](*arguments, **keywords)
            reply = ["returned", encode(value), encode(arguments)]
        except BaseException as error:
            reply = ["raised", type(error).__name__, str(error)[:MAX_REASON]]
        line.send(reply)


class Remote:
    """A function of the candidate, as the tests see it."""

    def __init__(self, line: Line, name: str) -> None:
        self._line, self.__name__ = line, name

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        self._line.send([self.__name__, encode(arguments), encode(keywords)])
        try:
            kind, *rest = self._line.receive()
            if kind == "raised":
                raise_as(*rest)
            value, changed = decode(rest[0]), decode(rest[1])
            for old, new in zip(arguments, changed, strict=True):
                copy_back(old, new)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if kind == "raised":
                raise
            raise Gone(f"the program's reply makes no sense: {error}") from None
        return value


def raise_as(name: str, reason: str) -> NoReturn:
    """Raises here what the candidate raised there, if it is a built-in exception."""
    kind = getattr(builtins, str(name), None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            error: Exception = kind(reason)
        except TypeError:  # such as UnicodeDecodeError, which wants five arguments
            error = RuntimeError(f"{name}: {reason}")
        raise error
    raise RuntimeError(f"{name}: {reason}")


def copy_back(old: Any, new: Any) -> None:
    """What the candidate did to a list, set or dict that it was given."""
    if isinstance(old, list) and isinstance(new, list):
        old[:] = new
    elif (isinstance(old, set) and isinstance(new, set)) or (isinstance(old, dict) and isinstance(new, dict)):
        old.clear()
        old.update(new)


def same_value(actual: Any, expected: Any) -> bool:
    """Equality by value, with a tolerance for floats, inside collections too."""
    if isinstance(expected, float) and isinstance(actual, int | float) and not isinstance(actual, bool):
        return actual == expected or math.isclose(actual, expected, rel_tol=1e-6, abs_tol=1e-9)
    if isinstance(expected, list | tuple) and type(actual) is type(expected):
        return len(actual) == len(expected) and all(map(same_value, actual, expected))
    if isinstance(expected, dict) and isinstance(actual, dict):
        return actual.keys() == expected.keys() and all(same_value(actual[key], expected[key]) for key in expected)
    return bool(actual == expected)


def expect(actual: Any, expected: Any) -> None:
    if not same_value(actual, expected):
        raise AssertionError(f"got {actual!r:.100}, not {expected!r:.100}")


def expect_shown(actual: Any, shown: str) -> None:
    """An example whose outcome is no Python value: it must read as the example does."""
    if shown not in (repr(actual), str(actual)):
        raise AssertionError(f"got {actual!r:.100}, not {shown:.100}")


def visible(name: str, asked: str | None) -> bool:
    """Whether tests see what the candidate calls so: a builtin's name is the candidate's where it was ``asked`` for."""
    return not name.startswith("__") and (name == asked or not hasattr(builtins, name))


def examine(cases: list[str], asked: str | None, line: Line, tell: Callable[[list[Any]], None]) -> None:
    kind, *rest = line.receive()
    if kind != "defined":
        for _ in cases:
            tell([False, f"the program failed: {rest[0]}: {rest[1]}"])
        return
    for case in cases:
        namespace: dict[str, Any] = {name: decode(value) for name, value in rest[1].items() if visible(name, asked)}
        namespace |= {name: Remote(line, name) for name in rest[0] if visible(name, asked)}
        namespace |= {"__name__": "tests", "expect": expect, "expect_shown": expect_shown}
        try:
            exec(compile(case, "tests.py", "exec"), namespace)
            tell([True, ""])
        except Exception as error:
            tell([False, f"{type(error).__name__}: {error}"[:MAX_REASON]])


def main(source: str, asked: str | None = None) -> None:
    sys.set_int_max_str_digits(0)
    calls, replies = os.pipe(), os.pipe()
    if os.fork() == 0:
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.close(calls[1])
        os.close(replies[0])
        serve(source, Line(calls[0], replies[1]))
        os._exit(0)
    os.close(calls[0])
    os.close(replies[1])
    cases = json.loads(sys.stdin.buffer.read())
    results = os.fdopen(os.dup(1), "w")

    def tell(result: list[Any]) -> None:
        results.write(json.dumps(result) + "\n")
        results.flush()

    try:
        examine(cases, asked, Line(replies[0], calls[1]), tell)
    except Gone as gone:
        tell([False, str(gone)])
    except (ValueError, BrokenPipeError):
        tell([False, "the program broke off"])
    os._exit(0)
