"""A saved state is a copy, in plain values."""

from __future__ import annotations

import pickle

from fathom.records import Trajectory
from fathom.search import Vote
from fathom.search.base import Terms


def test_a_saved_state_is_a_copy_without_what_belongs_to_the_reasoner() -> None:
    core = Vote(width=9).begin(Terms())
    core.ask(2)
    core.tell(Trajectory(0, text="x", answer="x", key="x", finished=True, state=lambda: "cannot be pickled"))
    saved = core.state()
    assert pickle.dumps(saved)
    core.tell(Trajectory(1, text="y", answer="y", key="y", finished=True))
    resumed = Vote(width=9).begin(Terms())
    resumed.restore(saved)
    assert list(resumed.trajectories) == [0]
    assert [c.answer for c in resumed.standing.candidates] == ["x"]
