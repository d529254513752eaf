"""The part that searches share which run others one after another: a pipeline, a ladder of models. All go on with the
same trajectories and the same numbering, and what counts is what the last of them with an answer has found."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Generic, TypeVar

from fathom.search.base import Search, Standing, Strategy

__all__ = ["StagedSearch"]

S = TypeVar("S", bound=Search)


class StagedSearch(Search, Generic[S]):
    """Searches in ``stages``, the last of which is running."""

    apart: ClassVar[tuple[str, ...]] = ("stages", "trajectories", "terms")
    """What a saved state leaves out: what was said, and what is saved in a way of its own."""

    def __init__(self, first: S) -> None:
        super().__init__()
        self.stages: list[S] = [first]
        self.trajectories = first.trajectories

    @abstractmethod
    def stage(self, nth: int) -> S:
        """The search that was begun as ``nth``, as it was at its beginning."""

    @property
    def now(self) -> S:
        """The search that is running."""
        return self.stages[-1]

    def go_on(self, after: S) -> None:
        """Have another search go on where this one is."""
        after.follow(self.now)
        self.stages.append(after)

    def follow(self, earlier: Search) -> None:
        super().follow(earlier)
        self.now.follow(earlier)

    def tell_error(self, error: str) -> None:
        super().tell_error(error)
        self.now.tell_error(error)

    def wind_down(self) -> None:
        super().wind_down()
        self.now.wind_down()

    @property
    def standing(self) -> Standing:
        """That of the last search that has an answer, with the losses of all."""
        found = next((s for stage in reversed(self.stages) if (s := stage.standing).answer is not None), Standing())
        return replace(found, notes=tuple(dict.fromkeys((*found.notes, *self.losses)))) if self.errors else found

    def state(self) -> dict[str, Any]:
        own = {k: v for k, v in vars(self).items() if k not in self.apart and not isinstance(v, Strategy)}
        stages = [stage.state() for stage in self.stages]
        trajectories = [stage.pop("trajectories") for stage in stages][-1]  # the same for all
        return {**copy.deepcopy(own), "trajectories": trajectories, "stages": stages}

    def restore(self, state: Mapping[str, Any]) -> None:
        own = copy.deepcopy(dict(state))
        states = own.pop("stages")
        vars(self).update(own)
        self.stages = []
        for nth, said in enumerate(states):
            self.stages.append(self.stage(nth))
            self.now.restore({**said, "trajectories": self.trajectories})
        for stage in self.stages:
            stage.trajectories = self.trajectories
