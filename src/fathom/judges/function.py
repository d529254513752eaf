"""The verifier ``callable``: a Python function of the caller's own, sync or async, as a judge.

It can only be given from Python: a spec string that names a function to import would let whoever sends specs to
a server run what they like there.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from fathom.errors import SpecError
from fathom.judges.base import Candidate, EachVerifier, Verdict
from fathom.judges.registry import JUDGES
from fathom.specs import option

__all__ = ["Function"]


def _as_given(value: Any) -> Any:
    return value


@JUDGES.register("callable")
@dataclass(frozen=True)
class Function(EachVerifier):
    """Asks a Python function of yours.

    It is called with the problem and the candidate, ``f(problem, candidate)``, or with the candidate alone where it
    takes one argument, and returns a bool, a score in [0, 1] or a Verdict. An async function is awaited; another runs
    in a thread, which goes on where the run is cancelled, since threads cannot be stopped.
    """

    name: ClassVar[str] = "callable"

    function: Callable[..., Any] = option(help="the function; only from Python", parse=_as_given)

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise SpecError(f"callable(function=…) takes a function, and only from Python, not {self.function!r:.100}")
        try:
            required = len(self._arguments("", Candidate("")))
        except ValueError:
            return  # a builtin without a signature is called with both
        if required == 0:
            raise SpecError("callable(function=…) must take the candidate, or the problem and the candidate")

    def _arguments(self, problem: str, candidate: Candidate) -> tuple[Any, ...]:
        signature = inspect.signature(self.function)
        for arguments in ((problem, candidate), (candidate,)):
            try:
                signature.bind(*arguments)
            except TypeError:
                continue
            return arguments
        return ()

    async def verdict(self, problem: str, candidate: Candidate) -> Verdict:
        arguments = self._arguments(problem, candidate)
        if inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(type(self.function).__call__):
            said = await self.function(*arguments)
        else:
            said = await asyncio.to_thread(self.function, *arguments)
            if inspect.isawaitable(said):
                said = await said
        return _verdict(said)


def _verdict(said: Any) -> Verdict:
    if isinstance(said, Verdict):
        return said
    if isinstance(said, bool):
        return Verdict.of(said)
    if isinstance(said, int | float) and 0 <= said <= 1:
        return Verdict(float(said))
    shown = "NaN" if isinstance(said, float) and math.isnan(said) else f"{said!r:.100}"
    return Verdict.failed(f"the function returned {shown}, not a bool, a score in [0, 1] or a Verdict")
