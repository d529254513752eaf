"""Trees without a model: a search core is asked and told directly, on lines of thought whose worth is known.

A line of thought is a word; a step, or a unit of depth, adds one letter. What can follow is drawn from ``letters`` by
``odds``, with a generator of its own for every trajectory, so that the tree depends on the ids that the core gives out
and on the seed alone. After ``depth`` steps it is an answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fathom.judges.base import Verdict
from fathom.records import Trajectory
from fathom.search.base import Action, Conclude, Drop, Grow, Judge, Search

Score = Callable[[str], float]


@dataclass
class World:
    """Plays the model, the judge and the driver for one core, and watches that the core keeps the rules."""

    score: Score
    depth: int = 4
    letters: str = "abc"
    odds: Sequence[float] = (1.0, 1.0, 1.0)
    seed: int = 0
    ends: Callable[[str], bool] = lambda text: False
    shuffle: random.Random | None = None
    out: list[Action] = field(default_factory=list)
    grown: list[int] = field(default_factory=list)
    judged: list[str] = field(default_factory=list)
    batches: int = 0
    dropped: set[int] = field(default_factory=set)
    widest: int = 0

    def grow(self, core: Search, id: int, parent: int | None, steps: int = 1) -> Trajectory:
        before = core.trajectories[parent] if parent is not None else Trajectory(-1)
        rng = random.Random((self.seed * 1_000_003 + id) * 101 + before.depth)
        text = before.text
        for _ in range(steps):
            text += rng.choices(self.letters, self.odds)[0]
            if done := len(text) == self.depth or self.ends(text):
                break
        return Trajectory(
            id,
            parent=parent,
            depth=len(text),
            text=text,
            answer=text if done else None,
            key=text if done else "",
            finished=done,
            reason="stop" if done else "step",
            logprobs=(-0.5,) * len(text),
            state=lambda: "what a reasoner holds cannot be pickled",
        )

    def play(self, core: Search, action: Action) -> None:
        match action:
            case Grow(ids, parent, units):
                assert parent is None or parent not in self.dropped
                self.grown += ids
                for id in ids:
                    core.tell(self.grow(core, id, parent, 1 if action.to_step else units or self.depth))
            case Conclude(ids):
                for id in ids:
                    t = core.trajectories[id]
                    core.tell(Trajectory(id, t.parent, t.depth, t.text, t.text, t.text, reason="cut"))
            case Judge(ids):
                texts = [core.trajectories[id].text for id in ids]
                self.judged += texts
                self.batches += 1
                for id, text in zip(ids, texts, strict=True):
                    core.tell_verdict(id, Verdict(self.score(text)))
            case Drop(ids):
                self.dropped.update(ids)

    def once(self, core: Search, room: int = 1 << 20) -> bool:
        """Ask, and play one of the actions that are out; False when there was nothing to do any more."""
        self.out += core.ask(room)
        growing = sum(len(a.ids) for a in self.out if isinstance(a, Grow))
        self.widest = max(self.widest, growing + core.at_rest)
        if not self.out:
            return False
        at = self.shuffle.randrange(len(self.out)) if self.shuffle else 0
        self.play(core, self.out.pop(at))
        return True

    def run(self, core: Search, room: int = 1 << 20) -> Search:
        while core.stopped is None and self.once(core, room):
            pass
        return core


class Scorer:
    """Stands for a judge in a spec: a core only wants to know that there is one."""

    name = "scorer"

    async def judge(self, problem: str, candidates: Sequence[object]) -> list[Verdict]:
        raise NotImplementedError
