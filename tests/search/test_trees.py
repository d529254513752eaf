"""What holds for every search over steps, on trees whose leaves are known."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import Scorer, World

from fathom.errors import SpecError
from fathom.judges.base import Verdict
from fathom.records import StopReason, Trajectory
from fathom.search import STRATEGIES
from fathom.search.base import Conclude, Drop, Grow, Judge, Lost, Search, Terms
from fathom.search.beam import Beam
from fathom.search.dvts import DiverseTrees
from fathom.search.particles import Particles
from fathom.search.rebase import Rebase
from fathom.search.trees import TreeSearch, TreeStrategy

JUDGE = Scorer()
KINDS: dict[str, TreeStrategy] = {
    "beam": Beam(width=12, branching=3, judge=JUDGE),
    "dvts": DiverseTrees(width=12, branching=3, judge=JUDGE),
    "rebase": Rebase(width=12, judge=JUDGE),
    "particles": Particles(width=12, judge=JUDGE),
}
every = pytest.mark.parametrize("kind", KINDS)
seeds = st.integers(0, 10**6)


def begin(kind: str, seed: int = 0, **options: object) -> TreeSearch:
    said = STRATEGIES.build(kind) if not options else KINDS[kind]
    core = (KINDS[kind] if not options else type(said)(**{**vars(said), **options})).begin(Terms(seed=seed))
    assert isinstance(core, TreeSearch)
    return core


def value(text: str) -> float:
    """The words in the order of a dictionary: to have an earlier a is worth more than all that can follow."""
    return sum(2.0 ** -(i + 1) for i, letter in enumerate(text) if letter == "a")


def hashed(text: str) -> float:
    """A worth that nothing but the whole text tells."""
    return random.Random(text).uniform(0.05, 0.95)


def tree(world: World, core: Search) -> dict[int, tuple[int | None, str]]:
    return {id: (t.parent, t.text) for id, t in core.trajectories.items()}


@pytest.mark.parametrize("kind", ["beam", "dvts", "rebase"])
@given(seed=seeds)
@settings(max_examples=25)
def test_a_perfect_judge_finds_the_best_leaf_that_was_in_reach(kind: str, seed: int) -> None:
    """Whatever the best that was drawn, a perfect judge never leaves it, up to the best leaf that was drawn at all."""
    world = World(value, seed=seed, letters="ab", odds=(1, 1))
    core = world.run(begin(kind, width=12, select="best"))
    leaves = [t.text for t in core.trajectories.values() if t.answer is not None]
    assert core.standing.answer in leaves
    assert value(core.standing.answer or "") == max(map(value, leaves))
    prefix, best = "", core.standing.answer or ""
    drawn = {t.text for t in core.trajectories.values()}
    while (prefix + "a") in drawn:
        prefix += "a"
    assert best.startswith(prefix)


@every
@given(seed=seeds, room=st.integers(1, 20), shuffle=seeds)
@settings(max_examples=20)
def test_the_tree_depends_on_the_seed_alone_and_keeps_the_rules(kind: str, seed: int, room: int, shuffle: int) -> None:
    plain, other = World(hashed, seed=seed), World(hashed, seed=seed, shuffle=random.Random(shuffle))
    one, two = plain.run(begin(kind, seed)), begin(kind, seed)
    while two.stopped is None and other.once(two, max(0, room - sum(isinstance(a, Grow) for a in other.out))):
        pass
    assert tree(plain, one) == tree(other, two)
    assert one.standing.answer == two.standing.answer
    for world, core in ((plain, one), (other, two)):
        assert len(world.grown) == len(set(world.grown))
        assert world.widest <= 12
        assert not core.at_rest
        answered = {id for id, t in core.trajectories.items() if t.answer is not None}
        expanded = {t.parent for t in core.trajectories.values()}
        assert set(core.trajectories) == answered | (expanded - {None}) | world.dropped, (
            "all end, branch or are dropped"
        )
        assert not world.dropped & answered


@every
def test_a_step_is_judged_in_one_batch_and_each_text_of_it_once(kind: str) -> None:
    world, core = World(value, letters="ab", odds=(1, 1), depth=3), begin(kind)
    world.run(core)
    assert world.batches == 3
    assert max(Counter(world.judged).values()) == 1


@every
@given(seed=seeds, after=st.integers(1, 25))
@settings(max_examples=20)
def test_wound_down_anywhere_every_open_line_is_concluded_and_none_grows(kind: str, seed: int, after: int) -> None:
    world, core = World(hashed, seed=seed, depth=6), begin(kind, seed)
    for _ in range(after):
        world.once(core)
    core.wind_down()
    grown = len(world.grown)
    out = {id for a in world.out if isinstance(a, Grow) for id in a.ids}
    world.run(core)
    assert set(world.grown[grown:]) <= out
    assert not core.at_rest
    assert core.standing.answer is not None
    assert core.standing.best in core.settled
    assert len(core.settled) == len(set(core.settled))
    assert len(core.verdicts) == sum(core.trajectories[id].answer is not None for id in core.settled)


def test_a_verdict_on_a_step_that_comes_after_its_conclusion_is_not_taken_for_one_on_the_answer() -> None:
    core, world = begin("beam"), World(value)
    world.once(core)
    (judge,) = core.ask(100)
    assert isinstance(judge, Judge)
    core.wind_down()
    (conclude,) = core.ask(100)
    assert isinstance(conclude, Conclude)
    world.play(core, conclude)
    world.play(core, judge)
    assert not core.verdicts
    (final,) = core.ask(100)
    world.play(core, final)
    assert len(core.verdicts) == len(conclude.ids) == 12


@every
def test_limits_on_steps_and_depth_conclude(kind: str) -> None:
    for options in ({"steps": 3}, {"depth": 3}):
        core = World(value, depth=50).run(begin(kind, **options))
        assert max(len(t.text) for t in core.trajectories.values()) == 3
        assert all(t.answer is not None for t in core.trajectories.values() if len(t.text) == 3)
    core = begin(kind, depth=0)
    (grow,) = core.ask(100)
    assert isinstance(grow, Grow)
    assert grow.units == 0


@every
def test_children_that_fail_cost_themselves_and_a_parent_left_alone_is_concluded(kind: str) -> None:
    core, world = begin(kind), World(value)
    (first,) = core.ask(100)
    world.play(core, first)
    (judge,) = core.ask(100)
    world.play(core, judge)
    actions = core.ask(100)
    grows = [a for a in actions if isinstance(a, Grow)]
    for grow in grows:
        core.tell_lost(Lost(grow.ids, "the server is gone"))
    concluded = [id for a in core.ask(100) if isinstance(a, Conclude) for id in a.ids]
    assert sorted(concluded) == sorted({grow.parent for grow in grows})
    world.play(core, Conclude(tuple(concluded)))
    world.run(core)
    assert core.standing.answer is not None
    assert any("the server is gone" in note for note in core.standing.notes)


@every
def test_children_that_a_limit_held_back_are_asked_for_again(kind: str) -> None:
    core, world = begin(kind), World(value)
    (first,) = core.ask(100)
    core.tell_lost(Lost(first.ids[4:]))
    world.play(core, Grow(first.ids[:4]))
    assert core.ask(0) == []
    again = core.ask(100)
    assert sum(len(a.ids) for a in again if isinstance(a, Grow)) == 8
    assert not set(first.ids) & {id for a in again for id in a.ids}


def test_an_accepting_verifier_ends_the_search() -> None:
    core = World(value, depth=1).run(begin("beam"))
    assert core.stopped is None
    core = begin("beam")
    world = World(value, depth=1, letters="a", odds=(1,))
    (grow,) = core.ask(100)
    world.play(core, grow)
    (judge,) = core.ask(100)
    core.tell_verdict(judge.ids[0], Verdict.of(True))
    assert core.stopped is StopReason.VERIFIED
    assert core.standing.valid is True
    assert core.standing.confidence == 1.0


@pytest.mark.parametrize("select", ["weighted", "vote", "best"])
def test_the_answer_is_chosen_as_said(select: str) -> None:
    scores = {"a": 0.9, "b": 0.4, "c": 0.1}
    ids = {"b": 3, "a": 1, "c": 8}
    core = begin("beam", select=select)
    world = World(scores.__getitem__, depth=1)
    order = iter("bbbacccccccc")
    world.grow = lambda core, id, parent, steps: World(value, depth=1, letters=next(order), odds=(1,)).grow(
        core, id, parent
    )  # type: ignore[method-assign]
    world.run(core)
    assert sum(ids.values()) == 12
    assert core.standing.answer == {"weighted": "b", "vote": "c", "best": "a"}[select]


def test_beams_that_finished_are_kept_aside_and_narrow_the_rest() -> None:
    core = begin("beam")
    world = World(value, depth=9, letters="abcdefghijkl", odds=[1] * 12, ends=lambda text: text[-1] in "bc")
    while world.once(core):
        live = core.width - len(core.settled)
        growing = sum(len(a.ids) for a in world.out if isinstance(a, Grow))
        assert growing <= live
    assert len(core.settled) <= 12


def test_enough_finished_beams_end_the_search() -> None:
    core = begin("beam", enough=2)
    world = World(value, depth=30, ends=lambda text: text.count("b") >= 3)
    world.run(core)
    assert 2 <= len(core.settled) <= 12
    assert max(len(t.text) for t in core.trajectories.values()) < 30


@every
def test_drafts_of_an_earlier_search_count_among_the_answers(kind: str) -> None:
    drafts = tuple(Trajectory(id, depth=4, text=f"{id}zzz", answer="zzzz", key="zzzz", finished=True) for id in (3, 7))
    core = KINDS[kind].begin(Terms(drafts=drafts))
    world = World(lambda text: 0.9 if "z" in text else 0.1, letters="abcdefghijkl", odds=[1] * 12)
    world.run(core)
    assert len(world.grown) == len(set(world.grown))
    assert min(world.grown) > 7
    assert core.standing.answer == "zzzz"
    assert sum(len(t.text) == 1 for t in core.trajectories.values()) == 12


def test_duplicate_steps_are_expanded_once() -> None:
    core, world = begin("beam"), World(value, letters="ab", odds=(1, 1))
    world.run(core)
    parents = {t.parent for t in core.trajectories.values() if t.parent is not None}
    texts = [core.trajectories[p].text for p in parents]
    assert len(texts) == len(set(texts))


def test_dvts_keeps_one_line_in_each_tree() -> None:
    core, world = begin("dvts"), World(hashed, depth=5)
    world.run(core)
    for step in range(2, 6):
        parents = [t.parent for t in core.trajectories.values() if len(t.text) == step]
        assert set(Counter(parents).values()) == {3}
        assert len({core.trees[p] for p in parents if p is not None}) == len(set(parents)) == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "spec",
    [
        "beam(width=10, branching=4)",
        "dvts(width=10, branching=4)",
        "beam(branching=0)",
        "beam(enough=0)",
        "rebase(temperature=0)",
        "rebase(temperature=nan)",
        "particles(ess=1.5)",
        "particles(anneal=2)",
        "beam(step_tokens=0)",
        "rebase(steps=0)",
        "beam(select=worst)",
        "beam(frontier=3)",
    ],
)
def test_options_that_make_no_sense_are_refused(spec: str) -> None:
    with pytest.raises(SpecError):
        STRATEGIES.build(spec)


def test_a_width_of_the_budget_that_branching_does_not_divide_is_refused_and_a_default_is_fitted() -> None:
    with pytest.raises(SpecError, match="branching=4"):
        Beam().begin(Terms(width=6))
    assert Beam().begin(Terms(max_width=6)).width == 4
    assert Beam(branching=5).begin(Terms()).width == 15


def test_the_first_actions_of_a_step_drop_what_was_not_chosen() -> None:
    core, world = begin("beam"), World(value, letters="abcdefghijkl", odds=[1] * 12)
    world.once(core)
    world.once(core)
    actions = core.ask(100)
    assert isinstance(actions[0], Drop)
    kept = {a.parent for a in actions if isinstance(a, Grow)}
    assert set(actions[0].ids) | kept == set(range(12))
    assert sum(len(a.ids) for a in actions if isinstance(a, Grow)) == 3 * len(kept)
