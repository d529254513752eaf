"""What tree search itself costs: seconds per ask and tell of AB-MCTS, ours and that of the package treequest.

Both grow a tree of the same size from scores drawn alike, one node at a time, without any model, and both decide by
Thompson sampling with Beta posteriors. Reported is the time for a node at the end of the growth (over the last tenth)
and over all of it. What a node costs depends on the shape that the tree takes, which both draw for themselves.

    python benchmarks/mcts_selection.py --nodes 10000

The rival needs ``pip install treequest==0.3.3``; without it its row says so. ``--rival-seconds`` ends its growth early,
and its row then tells how far it came.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator

from fathom.judges.base import Verdict
from fathom.records import Trajectory
from fathom.search import Mcts
from fathom.search.base import Grow, Terms


class Given:
    """A judge that is never asked: the benchmark tells the verdicts itself."""

    name = "given"

    async def judge(self, problem: str, candidates: object) -> list[Verdict]:
        raise NotImplementedError


def score(rng: random.Random, parent: float) -> float:
    """A child's score: its parent's, give or take; drawn afresh at the root."""
    return min(1.0, max(0.0, rng.gauss(parent, 0.15)))


def ours(nodes: int, seed: int) -> Iterator[float]:
    """The whole search core: ids, trajectories, verdicts and votes included."""
    rng = random.Random(seed)
    core = Mcts(width=nodes, judge=Given(), wave=1).begin(Terms(seed=seed))
    scores: dict[int, float] = {}
    for _ in range(nodes):
        began = time.process_time()
        (grow,) = core.ask(1)
        spent = time.process_time() - began
        assert isinstance(grow, Grow)
        (id,) = grow.ids
        scores[id] = min(0.999, score(rng, scores[grow.sources[0]] if grow.sources else 0.4))
        answer = str(id % 50)
        trajectory = Trajectory(id, answer=answer, key=answer, finished=True)
        began = time.process_time()
        core.tell(trajectory)
        core.ask(0)
        core.tell_verdict(id, Verdict(scores[id]))
        yield spent + time.process_time() - began


def treequest(nodes: int, seed: int) -> Iterator[float]:
    """ABMCTSA of treequest, in place, as its own ``step`` runs it."""
    import numpy
    from treequest.algos.ab_mcts_a.algo import ABMCTSA

    numpy.random.seed(seed)
    rng = random.Random(seed)
    algorithm = ABMCTSA(dist_type="beta")
    state = algorithm.init_tree()
    for _ in range(nodes):
        began = time.process_time()
        state, trial = algorithm.ask(state, ["a"])
        spent = time.process_time() - began
        parent = 0.4 if trial.parent_state is None else trial.parent_state
        value = score(rng, parent)
        began = time.process_time()
        state = algorithm.tell(state, trial.trial_id, (value, value))
        yield spent + time.process_time() - began


def row(name: str, grow: Callable[[int, int], Iterator[float]], nodes: int, seed: int, most: float) -> str:
    spent: list[float] = []
    try:
        for seconds in grow(nodes, seed):
            spent.append(seconds)
            if len(spent) % 100 == 0 and sum(spent) > most:
                break
    except ImportError as error:
        return f"| {name} | not run: {error} | | |"
    last = spent[-max(1, len(spent) // 10) :]
    return f"| {name} | {len(spent)} | {1e6 * sum(last) / len(last):.0f} | {1e6 * sum(spent) / len(spent):.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rival-seconds", type=float, default=120.0)
    options = parser.parse_args()
    print("| search | nodes | µs a node at the end | µs a node over all |\n|---|---|---|---|")
    print(row("fathom mcts", ours, options.nodes, options.seed, float("inf")), flush=True)
    print(row("treequest ABMCTSA", treequest, options.nodes, options.seed, options.rival_seconds))


if __name__ == "__main__":
    main()
