"""Beam search, particle filtering and best-of-n, ours and those of its-hub, on one upstream, with one judge.

    python benchmarks/searches_its_hub.py              # a server that gives n choices for one request, as vLLM does
    python benchmarks/searches_its_hub.py --many 1     # one that ignores n

The upstream is a process of its own that waits 20 ms before every reply, and writes chains of thought of five steps in
random words, the last of which holds the answer. The judge is a hash of the text, and asks nobody. Rows are run in
turn, so that a busy moment of the machine meets all of them, and medians are told: requests to the upstream, wall time,
and CPU time of the client.

A budget of 8 or 64 is the width of ours and the budget of theirs; both beams keep 4. Theirs begins with budget / 4
candidates and reaches the full width only in the third step, ours begins with the full width. Best-of-n of its-hub is
run as it comes, with 32 requests at a time, and with any number.

The rival needs ``pip install 'its-hub[lm]==1.2.0'``, in an environment made for the purpose; without it there are our
rows alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import random
import statistics
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import fathom
from fathom.judges.base import Candidate, Verdict
from fathom.language.engines.openai import OpenAIEngine
from fathom.language.model import LanguageModel
from fathom.search import Beam, BestOfN, Particles, Strategy

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from upstreams import Upstream

QUESTION = "What is 17 times 23? Think step by step."
STEPS, STEP, KEPT = 5, "\n\n", 4
BUDGETS = (8, 64)
Row = Callable[[], Awaitable[object]]


def chain(body: dict[str, Any], choice: int) -> list[str]:
    """The words that a chain of thought goes on with, up to the end of its step where that is a stop string."""
    last = body["messages"][-1]
    begun = last["content"].count(STEP) if last["role"] == "assistant" else 0
    drawn = [f"Step {k + 1} takes {random.randrange(10**6)} and goes on from there." for k in range(begun, STEPS - 1)]
    steps = [*drawn, f"So the answer is \\boxed{{{random.randrange(100)}}}."]
    text = steps[0] if STEP in (body.get("stop") or "") else STEP.join(steps)
    return [f"{word} " for word in text.split(" ")]


def score(text: str) -> float:
    return zlib.crc32(text.strip().encode()) / 2**32


class Hash:
    """The judge for ours."""

    name: ClassVar[str] = "hash"

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
        return [Verdict(score(candidate.text)) for candidate in candidates]


def serve(delay: float, many: int) -> None:
    """Print the URL, then for every line of standard input the requests since the last one."""
    with Upstream(delay=delay, many=many, tokens=chain, owner="vllm", logprobs=False) as server:
        print(server.url, flush=True)
        for _ in sys.stdin:
            print(len(server.bodies), flush=True)
            server.bodies.clear()


class Server:
    """That process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._ask, self._told = process.stdin, process.stdout
        self.url = self._told.readline().strip()

    def requests(self) -> int:
        print(file=self._ask, flush=True)
        return int(self._told.readline())


@contextlib.contextmanager
def upstream(delay: float, many: int) -> Iterator[Server]:
    command = [sys.executable, __file__, "--serve", "--delay", str(delay), "--many", str(many)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def ours(model: LanguageModel, budget: int) -> dict[str, Row]:
    strategies: dict[str, Strategy] = {
        "best-of-n": BestOfN(width=budget, judge=Hash()),
        "beam": Beam(width=budget, branching=budget // KEPT, judge=Hash()),
        "particles": Particles(width=budget, judge=Hash()),
    }
    return {name: lambda s=s: fathom.asolve(model, QUESTION, strategy=s) for name, s in strategies.items()}


def theirs(url: str, budget: int, stack: contextlib.AsyncExitStack) -> dict[str, Row]:
    from its_hub.api import AbstractOutcomeRewardModel, AbstractProcessRewardModel
    from its_hub.core.algorithms.beam_search import BeamSearch
    from its_hub.core.algorithms.bon import BestOfN as TheirBestOfN
    from its_hub.core.algorithms.particle_gibbs import ParticleFiltering
    from its_hub.core.lms.openai_lm import OpenAICompatibleLanguageModel
    from its_hub.core.lms.step_generation import StepGeneration
    from its_hub.core.orchestrator import LMOrchestrator

    class Outcome(AbstractOutcomeRewardModel):  # type: ignore[misc]
        def score(self, messages: Any, **kwargs: Any) -> list[float]:
            return [score(conversation[-1].content) for conversation in messages]

        async def ascore(self, messages: Any, orchestrator: Any = None, **kwargs: Any) -> list[float]:
            return self.score(messages)

    class Process(AbstractProcessRewardModel):  # type: ignore[misc]
        def score(self, prompt: Any, steps: list[str]) -> list[float]:
            return [score(text) for text in steps]

        async def ascore(self, prompt: Any, steps: list[str]) -> list[float]:
            return self.score(prompt, steps)

    model = OpenAICompatibleLanguageModel(url, "none", "m", max_tokens=256)
    stack.push_async_callback(model.close_session)
    stepper = StepGeneration(max_steps=STEPS + 1, step_token=STEP, stop_token="\\boxed")
    algorithms = {
        "best-of-n": TheirBestOfN(Outcome()),
        "best-of-n, unlimited": TheirBestOfN(Outcome(), LMOrchestrator(-1)),
        "beam": BeamSearch(stepper, Process(), beam_width=KEPT),
        "particles": ParticleFiltering(stepper, Process()),
    }
    return {name: lambda a=a: a.ainfer(model, QUESTION, budget) for name, a in algorithms.items()}


async def timed(runs: int, rows: dict[tuple[str, int, str], Row], server: Server) -> None:
    figures: dict[tuple[str, int, str], list[tuple[float, float, float]]] = {name: [] for name in rows}
    for run in range(runs + 1):  # the first round warms up
        for name, row in rows.items():
            server.requests()
            wall, cpu = time.perf_counter(), time.process_time()
            await row()
            spent = time.perf_counter() - wall, time.process_time() - cpu
            if run:
                figures[name].append((server.requests(), spent[0] * 1e3, spent[1] * 1e3))
    print("| search | budget | | requests | wall ms | CPU ms |\n|---|---:|---|---:|---:|---:|")
    for (search, budget, whose), figure in sorted(figures.items()):
        requests, wall, cpu = (statistics.median(column) for column in zip(*figure, strict=True))
        print(f"| {search} | {budget} | {whose} | {requests:g} | {wall:.0f} | {cpu:.0f} |")


async def compare(runs: int, delay: float, many: int) -> None:
    with upstream(delay, many) as server, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its-hub's own, of its own calls
        engine = OpenAIEngine("m", server.url)
        await engine.identify()
        stack = contextlib.AsyncExitStack()
        rows: dict[tuple[str, int, str], Row] = {}
        for budget in BUDGETS:
            rows |= {(name, budget, "fathom"): row for name, row in ours(LanguageModel(engine), budget).items()}
            if importlib.util.find_spec("its_hub") is not None:
                rows |= {
                    (name.split(",")[0], budget, name.replace(name.split(",")[0], "its-hub")): row
                    for name, row in theirs(server.url, budget, stack).items()
                }
        async with stack:
            await timed(runs, rows, server)
        await engine.aclose()
    if importlib.util.find_spec("its_hub") is None:
        print("\nits-hub was not run: pip install 'its-hub[lm]==1.2.0'")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--delay", type=float, default=0.02, help="the upstream's, in seconds")
    parser.add_argument("--many", type=int, default=1_000, help="the most choices that it gives for one request")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.delay, options.many)
        return
    asyncio.run(compare(options.runs, options.delay, options.many))


if __name__ == "__main__":
    main()
