"""Wider or deeper, by Thompson sampling: the planted best is found, and the same seed grows the same tree."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Literal

import pytest
from exact_time import exactly_timed
from hypothesis import given
from hypothesis import strategies as st
from rehearsal import Scores, play, said

import fathom
from fathom import StopReason, Trajectory
from fathom.errors import UsageError
from fathom.language.engines.base import Prompt
from fathom.language.engines.scripted import Latency
from fathom.language.model import LanguageModel
from fathom.search import Mcts
from fathom.search.base import Action, Grow, Lost, Search, Terms
from fathom.search.mcts import ROOT, BranchingTree

Make = Callable[..., LanguageModel]
Posterior = Literal["beta", "gaussian"]
posteriors = st.sampled_from(["beta", "gaussian"])


class Digits(Scores):
    """Scores an answer by how much of the beginning of ``right`` it has."""

    def __init__(self, right: str) -> None:
        super().__init__({right[:n]: n / len(right) for n in range(len(right) + 1)})


def climbing(right: str, chance: float, rng: random.Random) -> Callable[[Grow, int, Search], Trajectory]:
    """A refinement has, by chance, one digit more than what it refines; else it loses its way."""

    def write(grow: Grow, id: int, core: Search) -> Trajectory:
        before = (core.trajectories[grow.sources[0]].answer or "") if grow.sources else ""
        answer = right[: len(before) + 1] if rng.random() < chance else before[:-1]
        return said(id, answer)

    return write


def shape(asked: list[Action]) -> list[tuple[tuple[int, ...], tuple[int, ...], str]]:
    return [(action.ids, action.sources, action.feedback) for action in asked if isinstance(action, Grow)]


@pytest.mark.parametrize("posterior", ["beta", "gaussian"])
def test_it_climbs_to_the_planted_answer_that_no_fresh_sample_can_reach(posterior: Posterior, fresh: int) -> None:
    right = str(fresh)[:3]
    found = 0
    for seed in range(12):
        core = Mcts(width=200, judge=Digits(right), posterior=posterior).begin(Terms(seed=seed))
        play(core, climbing(right, 0.5, random.Random(seed)))
        assert core.standing.answer == max((t.answer or "" for t in core.trajectories.values()), key=len)
        found += core.stopped is StopReason.VERIFIED and core.standing.answer == right
    assert found >= 10


@given(st.integers(), posteriors, st.integers(1, 6))
def test_the_same_seed_grows_the_same_tree(seed: int, posterior: Posterior, wave: int) -> None:
    def grown(seed: int) -> list[tuple[tuple[int, ...], tuple[int, ...], str]]:
        core = Mcts(width=30, judge=Digits("987654321"), posterior=posterior, wave=wave).begin(Terms(seed=seed))
        return shape(play(core, climbing("987654321", 0.4, random.Random(7)), room=8))

    tree = grown(seed)
    assert tree == grown(seed)
    assert sum(len(ids) for ids, _, _ in tree) == 30


def test_the_finding_on_an_answer_goes_to_its_refinements() -> None:
    core = Mcts(width=60, judge=Digits("4321")).begin(Terms(seed=3))
    asked = play(core, climbing("4321", 0.3, random.Random(0)))
    refined = [action for action in asked if isinstance(action, Grow) and action.sources]
    assert refined
    for action in refined:
        answer = core.trajectories[action.sources[0]].answer
        assert action.feedback == core.judge.verdict(answer).detail  # type: ignore[attr-defined]


def choices(score_wide: float, score_deep: float, posterior: Posterior, seed: int) -> tuple[int, int]:
    """How often 60 choices go wider at the root and how often deeper, where each pays as told."""
    tree = BranchingTree(random.Random(seed), posterior)
    wide = 0
    for id in range(60):
        node = tree.select()
        tree.expect(id, node)
        wide += node == ROOT
        tree.arrive(id, score_wide if node == ROOT else score_deep)
    return wide, 60 - wide


@pytest.mark.parametrize("posterior", ["beta", "gaussian"])
def test_it_goes_where_it_pays(posterior: Posterior) -> None:
    flat = [choices(0.6, 0.05, posterior, seed) for seed in range(20)]
    steep = [choices(0.1, 0.9, posterior, seed) for seed in range(20)]
    assert sum(wide for wide, _ in flat) > 2 * sum(deep for _, deep in flat)
    assert sum(deep for _, deep in steep) > 2 * sum(wide for wide, _ in steep)


def plainly_selected(tree: BranchingTree) -> int:
    """AB-MCTS-A as the paper puts it: a draw for each choice, from the posterior of the scores that it has led to."""

    def drawn(nodes: list[int]) -> float:
        scores = [tree.score[node] for node in nodes]
        posterior = tree.family.posterior(len(scores), sum(scores), sum(score * score for score in scores))
        return tree.family.draw(posterior, tree.random)

    def below(node: int) -> list[int]:
        return [node, *(deeper for child in tree.children[node] for deeper in below(child))]

    node = 0
    while (children := tree.children[node]) and drawn(children) < drawn(below(node)[1:]):
        node = max(children, key=lambda child: drawn(below(child)))
    return tree.ids[node]


@pytest.mark.parametrize("posterior", ["beta", "gaussian"])
def test_nodes_are_selected_as_often_as_by_drawing_for_every_choice(posterior: Posterior) -> None:
    rng = random.Random(7)
    tree = BranchingTree(rng, posterior)
    for id in range(40):
        parent = ROOT if id < 12 else rng.randrange(id) if rng.random() < 0.5 else 3
        tree.expect(id, parent)
        tree.arrive(id, rng.random())
    selections = 1500
    mine = Counter(tree.select() for _ in range(selections))
    theirs = Counter(plainly_selected(tree) for _ in range(selections))
    for node in mine.keys() | theirs:
        assert abs(mine[node] - theirs[node]) <= 5 * (mine[node] + theirs[node]) ** 0.5 + 1, node


@given(st.lists(st.tuples(st.sampled_from(["arrive", "forget", "expect"]), st.floats(0, 1)), max_size=60), posteriors)
def test_every_score_counts_once_along_its_path_and_what_came_to_nothing_not_at_all(
    events: list[tuple[str, float]], posterior: Posterior
) -> None:
    tree = BranchingTree(random.Random(0), posterior)
    out: list[int] = []
    scores: dict[int, float] = {}
    parents: dict[int, int] = {}
    for id, (what, score) in enumerate(events):
        if what == "expect" or not out:
            parents[id] = tree.select()
            tree.expect(id, parents[id])
            out.append(id)
        elif what == "arrive":
            scores[out[0]] = score
            tree.arrive(out.pop(0), score)
        else:
            tree.forget(out.pop(0))

    def beneath(node: int) -> list[int]:
        return [id for id in parents if any(up == node for up in line(id))]

    def line(id: int) -> list[int]:
        return [id] if id == ROOT else [id, *line(parents[id])]

    assert tree.expected == len(out)
    for id in [ROOT, *scores]:
        node = tree.node_of[id]
        counted = [scores.get(below, 0.0) for below in beneath(id) if below in scores or below in out]
        assert tree.below.n[node] == len(counted)
        assert tree.below.total[node] == pytest.approx(sum(counted))
        assert tree.below.squares[node] == pytest.approx(sum(score * score for score in counted))


def test_what_is_lost_leaves_no_trace_and_ends_no_run() -> None:
    core = Mcts(width=6, judge=Digits("12")).begin(Terms())
    actions = core.ask(8)
    ids = [id for action in actions if isinstance(action, Grow) for id in action.ids]
    assert len(ids) == 4
    core.tell_lost(Lost(tuple(ids[:3]), "boom"))
    core.tell_lost(Lost((ids[3],)))
    assert core.tree.expected == 0
    asked = play(core, lambda grow, id, core: said(id, "1"))
    assert sum(len(action.ids) for action in asked if isinstance(action, Grow)) == 3
    assert core.standing.answer == "1"
    assert "boom" in core.errors


async def test_refinements_that_see_the_finding_reach_what_samples_do_not(scripted: Make, fresh: int) -> None:
    right = str(fresh)[:3]

    def script(prompt: Prompt, rng: random.Random) -> str:
        before = ""
        if "correct what is wrong" in prompt.messages[-1].content:
            before = prompt.messages[-2].content.rpartition("\\boxed{")[2].partition("}")[0].strip("x")
        better = rng.random() < 0.6
        return f"\\boxed{{{right[: len(before) + 1] if better and right.startswith(before) else 'x'}}}"

    model = scripted(script, room=4)
    result = await fathom.asolve(model, "?", strategy=Mcts(width=300, judge=Digits(right)))
    assert result.answer == right
    assert result.receipt.stopped is StopReason.VERIFIED
    assert model.engine.running == 0


@exactly_timed
async def test_limits_hold(scripted: Make, slow: Latency) -> None:
    weights = {str(n): 1.0 for n in range(50)}
    model = scripted(weights, latency=slow, room=4)
    result = await fathom.asolve(model, "?", strategy="mcts(width=500)", within=0.3)
    assert result.answer
    assert result.receipt.stopped is StopReason.DEADLINE
    result = await fathom.asolve(model, "?", strategy="mcts(width=500)", budget=fathom.Budget(tokens=300))
    assert result.receipt.spent.tokens <= 300
    result = await fathom.asolve(model, "?", strategy="mcts", budget=fathom.Budget(width=5))
    assert result.receipt.spent.width == 5
    assert model.engine.running == 0


@pytest.mark.parametrize("spec", ["mcts(wave=0)", "mcts(width=0)", "mcts(posterior=cauchy)"])
async def test_what_makes_no_sense_is_refused(scripted: Make, spec: str) -> None:
    with pytest.raises(UsageError):
        await fathom.asolve(scripted({"1": 1}), "?", strategy=spec)
