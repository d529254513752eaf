"""The part that searches share which run others one after another: a pipeline, a ladder of models. All go on with the
same trajectories and the same numbering, and what counts is what the last of them with an answer has found."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from fathom.search.base import Search, Standing, Strategy

__all__ = ["StagedSearch"]

S = TypeVar("S", bound=Search)


class StagedSearch(Search, Generic[S]):
    """Searches in ``stages``, the last of which is running."""

    apart: ClassVar[tuple[str, ...]] = ("stages", "trajectories", "terms")
    """What a saved state leaves out: what was said, and the stages, whose states are saved one by one."""

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

    def wind_down(self) -> None:
        super().wind_down()
        self.now.wind_down()

    @property
    def standing(self) -> Standing:
        """That of the last search that has an answer."""
        return next((s for stage in reversed(self.stages) if (s := stage.standing).answer is not None), Standing())

    def state(self) -> dict[str, Any]:
        own = {k: v for k, v in vars(self).items() if k not in self.apart and not isinstance(v, Strategy)}
        return {**copy.deepcopy(own), "stages": [stage.state() for stage in self.stages]}

    def restore(self, state: Mapping[str, Any]) -> None:
        own = copy.deepcopy(dict(state))
        self.stages = []
        for nth, said in enumerate(own.pop("stages")):
            self.stages.append(self.stage(nth))
            self.now.restore(said)
        self.trajectories = self.now.trajectories
        for stage in self.stages:
            stage.trajectories = self.trajectories
        vars(self).update(own)
