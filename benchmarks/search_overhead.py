"""What every search itself costs, without the model: microseconds of CPU time a node.

    python benchmarks/search_overhead.py                         # all searches at 64, 300, 3,000 and 10,000 nodes
    python benchmarks/search_overhead.py mcts beam --nodes 300   # some of them
    python benchmarks/search_overhead.py --driver                # run by the driver

A node is a trajectory, or a step of one, that was asked for. The model has no weights and the judge looks scores up.
Each search is played once, to write down what it was told, in which order. Then a new one with the same seed is told
the same again, which leaves nothing of model, judge and clock in what is timed: the least of ``--times`` such replays.
With ``--driver`` it is run as in any use of the library, on a session that gives back what was written down, without
waiting; what such a session costs by itself is taken off. As steps have no answers, a tree of n nodes gives n / 8.

A figure of more than 20 µs is set in bold. The rule by which a vote stops is a sum over all that may still come: with
more than 300 nodes a vote, alone or in a cascade, is measured only without it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

from fathom.api import strategy_of
from fathom.budget import Meter
from fathom.judges.base import Candidate, Verdict
from fathom.judges.stopping import _chance_of_losing, _draws_level
from fathom.reasoner import Expansion, Reserve
from fathom.records import Problem, Trajectory
from fathom.search import Strategy
from fathom.search.base import Conclude, Grow, Judge, Search, Terms
from fathom.search.driver import Driver

STEPS = 8
ROOM = 16
MOST = 20.0
LARGEST_VOTE = 300
VOTES = ("vote", "cascade")
SPECS: dict[str, Callable[[int], str]] = {
    "first": lambda n: f"first(width={n}, of={n})",
    "vote, never stopping": lambda n: f"vote(width={n}, stop=never)",
    "vote": lambda n: f"vote(width={n})",
    "best-of-n": lambda n: f"best-of-n(width={n})",
    "best-of-n, weighted": lambda n: f"best-of-n(width={n}, weighted=true)",
    "ensemble": lambda n: f"ensemble(models=[b, c], width={n})",
    "cascade": lambda n: f"cascade(models=[b], width={n // 2}, confident=1)",
    "beam": lambda n: f"beam(width={n // STEPS // 4 * 4}, branching=4)",
    "dvts": lambda n: f"dvts(width={n // STEPS // 4 * 4}, branching=4)",
    "rebase": lambda n: f"rebase(width={n // STEPS})",
    "particles": lambda n: f"particles(width={n // STEPS})",
    "halving": lambda n: f"halving(width={n // 2}, units=1)",
    "refine": lambda n: f"refine(width=8, rounds={n // 8 - 1})",
    "fuse": lambda n: f"fuse(width={n // 3}, rounds=2)",
    "mcts": lambda n: f"mcts(width={n})",
    "mcts, gaussian": lambda n: f"mcts(width={n}, posterior=gaussian)",
    "best-of-n | refine": lambda n: f"best-of-n(width={n // 2}) | refine(width=8, rounds={n // 16})",
}
Event = tuple[str, Any]


class Lookup:
    """Scores that belong to the text."""

    name: ClassVar[str] = "lookup"

    def verdict(self, text: str) -> Verdict:
        return Verdict(random.Random(text).uniform(0.05, 0.95))

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
        return [self.verdict(candidate.text) for candidate in candidates]


def grown(core: Search, grow: Grow, id: int) -> Trajectory:
    """A line of thought of ``STEPS`` units, or as far as it was to go, that ends in one of fifty answers."""
    before = core.trajectories[grow.parent] if grow.parent is not None else Trajectory(id)
    units = 1 if grow.to_step else (grow.units or STEPS)
    depth = min(STEPS, before.depth + units)
    text = f"{before.text}{'abcdefgh'[id % 8]}{id}\n\n"
    answer = str(random.Random(text).randrange(50)) if depth == STEPS else None
    return Trajectory(
        id, grow.parent, depth, text, answer, answer or "", finished=answer is not None, logprobs=(-0.5,) * depth
    )


@dataclass
class Tale:
    """What a search was told, and what it grew."""

    strategy: Strategy
    nodes: int = 0
    events: list[Event] = field(default_factory=list)
    grown: dict[tuple[int, int], Trajectory] = field(default_factory=dict)  # by id, and how often it had grown before
    concluded: dict[int, Trajectory] = field(default_factory=dict)

    def play(self) -> None:
        core, judge = self.strategy.begin(Terms()), Lookup()
        times: dict[int, int] = {}
        while core.stopped is None:
            self.events.append(("ask", ROOM))
            told = len(self.events)
            for action in core.ask(ROOM):
                match action:
                    case Grow(ids):
                        for id in ids:
                            back = self.grown[id, times.setdefault(id, 0)] = grown(core, action, id)
                            times[id] += 1
                            self.events.append(("tell", back))
                    case Conclude(ids):
                        for id in ids:
                            back = replace(core.trajectories[id], answer="0", key="0")
                            self.concluded[id] = back
                            self.events.append(("tell", back))
                    case Judge(ids):
                        self.events += [("judged", (id, judge.verdict(core.trajectories[id].text))) for id in ids]
            if len(self.events) == told:
                break
            for what, told_of in self.events[told:]:
                core.tell(told_of) if what == "tell" else core.tell_verdict(*told_of)
        self.nodes = len(self.grown)

    def replay(self) -> Search:
        core = self.strategy.begin(Terms())
        for what, told_of in self.events:
            if what == "ask":
                core.ask(told_of)
            elif what == "tell":
                core.tell(told_of)
            else:
                core.tell_verdict(*told_of)
        core.standing  # noqa: B018  (part of what a run takes)
        return core


class Weightless:
    """A session that gives back at once what was written down."""

    label = "weightless"

    def __init__(self, tale: Tale) -> None:
        self.tale = tale
        self.times: dict[int, int] = {}

    def room(self, meter: Meter) -> int:
        return ROOM

    def reserve(self, width: int) -> Reserve:
        return Reserve(0.0, 0)

    async def expand(self, expansion: Expansion, meter: Meter) -> AsyncGenerator[Trajectory, None]:
        for id in expansion.ids:
            nth = self.times[id] = self.times.get(id, -1) + 1
            yield self.tale.grown.get((id, nth)) or Trajectory(id, answer="0", key="0", text=str(id))

    async def conclude(self, trajectories: Sequence[Trajectory], meter: Meter) -> AsyncGenerator[Trajectory, None]:
        for trajectory in trajectories:
            yield self.tale.concluded.get(trajectory.id) or replace(trajectory, answer="0", key="0")

    def drop(self, trajectories: Sequence[Trajectory]) -> None: ...

    def stop(self, ids: Collection[int] | None = None) -> None: ...

    async def aclose(self) -> None: ...


def driven(tale: Tale) -> None:
    meter = Meter()
    asyncio.run(Driver(tale.strategy.begin(Terms()), Weightless(tale), Problem.of("?"), meter).run())


def weightless(tale: Tale) -> None:
    """What the session costs by itself, asked for as many at a time as there is room, and the judge."""

    async def through() -> None:
        session, meter, judge = Weightless(tale), Meter(), Lookup()
        ids = [id for id, _ in tale.grown]
        for at in range(0, len(ids), ROOM):
            async for _ in session.expand(Expansion(tuple(ids[at : at + ROOM])), meter):
                pass
        for what, told_of in tale.events:
            if what == "judged":
                judge.verdict(str(told_of))

    asyncio.run(through())


def least(times: int, work: Callable[[], object]) -> float:
    """The least CPU time of some runs, in seconds."""

    def spent() -> Iterator[float]:
        for _ in range(times):
            gc.collect()
            _chance_of_losing.cache_clear()  # a rule of stopping remembers what earlier votes asked it
            _draws_level.cache_clear()
            began = time.process_time()
            work()
            yield time.process_time() - began

    return min(spent())


def cell(name: str, nodes: int, driver: bool, times: int) -> str:
    spec = SPECS[name](nodes)
    if name in VOTES and nodes > LARGEST_VOTE:
        return "-"
    tale = Tale(strategy_of(spec).judged_by_default(Lookup()))
    tale.play()
    if driver:
        seconds = least(times, partial(driven, tale)) - least(times, partial(weightless, tale))
    else:
        seconds = least(times, tale.replay)
    each = 1e6 * seconds / tale.nodes
    return f"**{each:.0f}**" if each > MOST else f"{each:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("searches", nargs="*", default=list(SPECS), help="of: " + "; ".join(SPECS))
    parser.add_argument("--nodes", type=int, nargs="+", default=[64, 300, 3_000, 10_000])
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--driver", action="store_true")
    asked = parser.parse_args()
    print("| µs of CPU time a node | " + " | ".join(f"{n:,}" for n in asked.nodes) + " |")
    print("|---|" + "---:|" * len(asked.nodes))
    for name in asked.searches:
        cells = [cell(name, n, asked.driver, asked.times) for n in asked.nodes]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
