"""One stage of a planned run: the search that was chosen, on one model, and what the model's samples say so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fathom.planning.cost import CostModel
from fathom.planning.plan import Choice
from fathom.planning.population import Seen
from fathom.search.base import Search
from fathom.search.samples import SampleSearch
from fathom.specs import Spec, parse_spec

__all__ = ["Stage"]


@dataclass
class Stage:
    """What runs. ``strategy`` names it without its width, which may change; ``depth`` is that of each sample.

    ``wave`` samples run at a time, or more where more are wanted in any case; ``grows``: one more with each that is
    over. A ``probe`` only finds out whether the question is so easy that its small model suffices. ``drag`` is how much
    longer samples really take than their model says of itself, None until one has shown it.
    """

    member: int
    model: str
    strategy: str
    width: int
    depth: int | None
    wave: int
    search: Search
    probe: bool = False
    grows: bool = False
    drag: float | None = None
    unit_seconds: dict[int, float] = field(default_factory=dict)  # by width, where the model says nothing of itself
    planned: int = 0  # samples that were in when the width was last planned
    began: dict[int, tuple[float, int]] = field(default_factory=dict)  # when each began, and how many ran then

    @classmethod
    def of(cls, choice: Choice, depth: int | None, search: Search, *, probe: bool = False) -> Stage:
        said = choice.member, choice.model, choice.strategy, choice.width, depth, choice.wave
        return cls(*said, search, probe, choice.grows)

    @property
    def samples(self) -> SampleSearch | None:
        """The search, where it is one over independent samples: only of those the width can be planned anew."""
        return self.search if isinstance(self.search, SampleSearch) else None

    @property
    def out(self) -> int:
        """Samples that were started and are not over."""
        return 0 if self.samples is None else self.samples.out

    @property
    def seen(self) -> Seen:
        """The votes that are in."""
        search = self.samples
        return Seen() if search is None else Seen.of(search.tally.counts, len(search.tally), search.likeliest_votes)

    def lengths(self, cost: CostModel) -> list[float]:
        """Units of the samples that are over; of those that were cut, what ``cost`` expects of them."""
        search = self.samples
        over = () if search is None else (search.trajectories[id] for id in search.settled)
        return [t.depth if t.finished else cost.beyond(t.depth) for t in over if t.depth]

    @property
    def told(self) -> str:
        """The spec of what was run, with the width that it came to."""
        search = self.samples
        if search is None:
            return self.strategy
        spec = parse_spec(self.strategy)
        options = {**spec.options, "width": search.width, **({} if self.depth is None else {"depth": self.depth})}
        name = {"direct": "vote"}.get(spec.name, spec.name)
        if name == "vote" and search.width == 1:
            name, options = "direct", {k: v for k, v in options.items() if k != "width"}
        return str(Spec(name, options))

    def state(self) -> dict[str, Any]:
        return {**{k: v for k, v in vars(self).items() if k != "search"}, "search": self.search.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Of a stage that was begun with the same choice."""
        vars(self).update({k: v for k, v in state.items() if k != "search"})
        self.search.restore(state["search"])
