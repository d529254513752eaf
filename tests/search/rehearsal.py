"""Plays a search core through ask and tell alone, without model, clock or driver."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from fathom.judges.base import Candidate, Verdict
from fathom.records import Trajectory
from fathom.search.base import Action, Conclude, Drop, Grow, Judge, Search

__all__ = ["Scores", "play", "said"]

Write = Callable[[Grow, int, Search], Trajectory]
"""What comes of growing one id of an action."""


class Scores:
    """A judge that looks the score of an answer up; it accepts what has 1."""

    name: ClassVar[str] = "scores"

    def __init__(self, scores: dict[str, float]) -> None:
        self.scores = scores
        self.asked: list[str] = []

    def verdict(self, answer: str | None) -> Verdict:
        score = self.scores.get(answer or "", 0.0)
        return Verdict(score, score == 1.0, f"{answer} is worth {score}")

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
        self.asked += [candidate.answer or "" for candidate in candidates]
        return [self.verdict(candidate.answer) for candidate in candidates]


def said(id: int, answer: str | None, depth: int = 10, *, finished: bool = True, logprob: float = -0.5) -> Trajectory:
    """A trajectory that states an answer."""
    return Trajectory(
        id,
        depth=depth,
        text=f"so {answer}",
        answer=answer,
        key=answer or "",
        finished=finished,
        reason="stop" if finished else "length",
        logprobs=(logprob,) * depth,
    )


def play(
    core: Search,
    write: Write,
    *,
    room: int = 4,
    shuffle: random.Random | None = None,
    conclude: Callable[[Trajectory], Trajectory] = lambda t: replace(t, answer="?", key="?"),
    until: Callable[[Search], bool] = lambda core: False,
) -> list[Action]:
    """Run the core to its end, everything coming back one at a time, in order or shuffled; all that it asked for.

    ``until`` has it wind down.
    """
    asked: list[Action] = []
    out: list[tuple[str, Grow | None, int]] = []
    cut: set[int] = set()
    while core.stopped is None:
        if until(core) and not core.winding_down:
            core.wind_down()
        growing = sum(kind == "grow" for kind, _, _ in out)
        for action in core.ask(room - growing):
            asked.append(action)
            match action:
                case Grow(ids):
                    out += [("grow", action, id) for id in ids]
                case Conclude(ids):
                    out += [("conclude", None, id) for id in ids]
                case Judge(ids):
                    out += [("judge", None, id) for id in ids]
                case Drop(ids):
                    cut.update(ids)
        if not out:
            break
        assert sum(kind == "grow" for kind, _, _ in out) <= room
        kind, grow, id = out.pop(shuffle.randrange(len(out)) if shuffle else 0)
        if grow is not None and id in cut:
            core.tell(Trajectory(id, depth=1, text="so", reason="cut"))
        elif grow is not None:
            core.tell(write(grow, id, core))
        elif kind == "conclude":
            core.tell(core.trajectories[id] if id in cut else conclude(core.trajectories[id]))
        else:
            assert isinstance(core.judge, Scores)
            core.tell_verdict(id, core.judge.verdict(core.trajectories[id].answer))
        if len(asked) < 30:
            core.standing  # noqa: B018  (a search is anytime)
    return asked
