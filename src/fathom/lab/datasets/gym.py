"""``reasoning-gym:NAME``: generated questions with their own verifiers (Stojanovski et al., arXiv 2505.24760).

Some of those verifiers evaluate what they are given, so an answer that a model wrote is scored in a process apart, with
limits on time, CPU and memory, and only if it is made of what answers are made of; one that means the same as the
reference is right without asking.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from fathom.answers import same
from fathom.errors import MissingDependency, SpecError, one_of
from fathom.lab.datasets.base import Dataset, Question, Scorer
from fathom.specs import parse_spec

__all__ = ["reasoning_gym"]

SECONDS = 20.0
"""Wall time for one verdict; the first one loads the package."""
_PLAIN = re.compile(r"[^_'\"\\`;]{1,2000}")  # no names, texts or statements to evaluate, and not endless


def reasoning_gym(spec: str, count: int, seed: int = 0) -> Dataset:
    """``count`` questions of a generator, e.g. ``chain_sum(min_terms=3)``, drawn by the seed.

    Raises SpecError for an unknown generator or option, MissingDependency without the package.
    """
    if find_spec("reasoning_gym") is None:
        raise MissingDependency("reasoning-gym", "datasets", "the dataset reasoning-gym")
    import reasoning_gym as package
    from reasoning_gym.factory import DATASETS

    said = parse_spec(spec)
    name = said.name.replace("-", "_")
    if name not in DATASETS:
        raise SpecError(one_of("generator of reasoning-gym", name, DATASETS))
    options = {**said.options, "size": count, "seed": seed}
    try:
        made = package.create_dataset(name, **options)
        entries = [made[i] for i in range(count)]
    except (TypeError, ValueError, AssertionError) as error:
        raise SpecError(f"reasoning-gym:{spec}: {error}") from None
    verifier = _Verifier(name, options)
    questions = [
        Question(str(i), entry["question"], str(entry["answer"]), _scorer(verifier, i, str(entry["answer"])))
        for i, entry in enumerate(entries)
    ]
    return Dataset(f"reasoning-gym:{said} (seed {seed})", questions, close=verifier.close)


def _scorer(verifier: _Verifier, index: int, reference: str) -> Scorer:
    async def score(answer: str) -> float:
        if same(answer, reference):
            return 1.0
        if not _PLAIN.fullmatch(answer):
            return 0.0
        return await verifier.score(index, answer)

    return score


@dataclass
class _Verifier:
    """The generator's verifier, in a process that is started when it is first asked and ended when it hangs."""

    name: str
    options: dict[str, Any]
    _process: asyncio.subprocess.Process | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def score(self, index: int, answer: str) -> float:
        async with self._turn:
            try:
                async with asyncio.timeout(SECONDS):
                    return await self._ask(index, answer)
            except (TimeoutError, ValueError, OSError):  # it hangs, was ended by a limit, or says nonsense
                await self.close()
                return 0.0
            except asyncio.CancelledError:
                await self.close()
                raise

    async def _ask(self, index: int, answer: str) -> float:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "fathom.lab.datasets.gym_verifier", json.dumps([self.name, self.options]),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([index, answer]).encode() + b"\n")
        await self._process.stdin.drain()
        said = float(await self._process.stdout.readline())
        return said if 0 <= said <= 1 else 0.0

    async def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()
