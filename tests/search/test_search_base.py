"""A search can be saved in the middle and resumed, whatever it is."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import Scorer, World

from fathom.records import Trajectory
from fathom.search import STRATEGIES, Strategy
from fathom.search.base import Terms

SPECS = ("vote(width=9)", "best-of-n(width=9)", "best-of-n(width=9, weighted=true)", "beam(width=8, branching=2)")


def built(spec: str) -> Strategy:
    strategy = STRATEGIES.build(spec)
    return strategy if spec.startswith("vote") else strategy.judged_by(Scorer())


@pytest.mark.parametrize("spec", SPECS)
@given(seed=st.integers(0, 10**6), after=st.integers(0, 12))
@settings(max_examples=20, deadline=None)
def test_saved_in_the_middle_and_resumed_it_gives_the_same_end(spec: str, seed: int, after: int) -> None:
    def score(text: str) -> float:
        return (text.count("a") + 1) / 9

    world, core = World(score, seed=seed), built(spec).begin(Terms())
    for _ in range(after):
        if core.stopped is None:
            world.once(core, room=3)
    saved = pickle.loads(pickle.dumps(core.state()))
    rest, resumed = World(score, seed=seed, out=list(world.out)), built(spec).begin(Terms())
    resumed.restore(saved)
    assert resumed.standing == core.standing
    world.run(core, room=3)
    rest.run(resumed, room=3)
    assert resumed.standing == core.standing
    assert resumed.trajectories == core.trajectories


def test_a_saved_state_is_a_copy_without_what_belongs_to_the_reasoner() -> None:
    core = built("vote(width=9)").begin(Terms())
    core.ask(2)
    core.tell(Trajectory(0, text="x", answer="x", key="x", finished=True, state=lambda: "cannot be pickled"))
    saved = core.state()
    assert pickle.dumps(saved)
    core.tell(Trajectory(1, text="y", answer="y", key="y", finished=True))
    resumed = built("vote(width=9)").begin(Terms())
    resumed.restore(saved)
    assert list(resumed.trajectories) == [0]
    assert [c.answer for c in resumed.standing.candidates] == ["x"]
