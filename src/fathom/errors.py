"""Every error that Fathom raises on purpose. Each says what was wrong, where, and what to do about it.

::

    FathomError
    ├── UsageError               the caller asked for something that makes no sense (exit status 2)
    │   ├── LimitError           a limit of a budget: zero, negative, NaN, or beyond what the model can do
    │   ├── SpecError            an unknown strategy, judge, verifier or option, or a value that does not parse
    │   ├── UnknownModel         no model of that name or URI
    │   ├── CapabilityError      a search or judge needs what this model's engine cannot do
    │   ├── PromptTooLong        the prompt does not fit into the model's context
    │   └── InputError           a puzzle, file or dataset that does not parse or contradicts itself
    ├── MissingDependency        an optional package is not installed; names the extra that brings it
    ├── NoAnswer                 the budget ended before there was any answer at all (exit status 3)
    ├── EngineError              a model could not be run
    │   ├── UpstreamError        a server answered with an error, or not at all
    │   └── ModelFileError       a model file is damaged or of the wrong kind
    └── DownloadError            a model could not be fetched
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fathom.records import Receipt

__all__ = [
    "CapabilityError",
    "DownloadError",
    "EngineError",
    "FathomError",
    "InputError",
    "LimitError",
    "MissingDependency",
    "ModelFileError",
    "NoAnswer",
    "PromptTooLong",
    "SpecError",
    "UnknownModel",
    "UpstreamError",
    "UsageError",
    "one_of",
]


class FathomError(Exception):
    """Base of all errors of this package."""


class UsageError(FathomError, ValueError):
    """The request itself is wrong; trying again unchanged cannot help."""


class LimitError(UsageError):
    """A limit that makes no sense. ``limit`` is the limit's name, e.g. ``"width"``."""

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.limit = limit


class SpecError(UsageError):
    """A spec string, such as ``"best-of-n(width=16)"``, names something unknown or does not parse."""


class UnknownModel(UsageError):
    """No model goes by this name or URI."""


class CapabilityError(UsageError):
    """A search or judge needs a capability that the model's engine lacks."""


class PromptTooLong(UsageError):
    """The prompt does not fit into the model's context."""


class InputError(UsageError):
    """A puzzle, file or dataset that does not parse or that contradicts itself."""


class MissingDependency(FathomError, ImportError):
    """An optional package is missing. ``extra`` is the extra of this distribution that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}; install it with: pip install 'fathom-inference[{extra}]'"
        )
        self.package = package
        self.extra = extra


class NoAnswer(FathomError):
    """The budget ended before there was any answer at all. ``receipt`` tells what was spent, where anything was."""

    def __init__(self, message: str, receipt: Receipt | None = None) -> None:
        super().__init__(message)
        self.receipt = receipt


class EngineError(FathomError):
    """A model could not be loaded or run."""


class UpstreamError(EngineError):
    """A server answered with an error, or not at all.

    ``status`` is the HTTP status, or None where no reply came; ``retryable`` says whether the same request may
    succeed later (429, 5xx, a dropped connection).
    """

    def __init__(self, message: str, *, status: int | None = None, retryable: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = retryable


class ModelFileError(EngineError):
    """A model file is damaged, truncated, or of the wrong kind."""


class DownloadError(FathomError):
    """A model could not be fetched."""


def one_of(what: str, name: str, known: Iterable[str]) -> str:
    """The message for an unknown name: what it was, the nearest known one, and all that there are."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {name!r}.{hint} There are: {', '.join(names) or 'none'}."
