"""What a search is: a pure core that is asked what to do next and told what came of it.

A core does no I/O and knows neither clock nor model: it can be tested without either, saved in the middle, and
resumed. ``search/driver.py`` drives it. What it asks for are *actions* on trajectories, which it numbers itself; what
it is told are trajectories as they come back, verdicts, and losses. It can be asked at any time for its *standing*:
the best answer so far and the tally behind it.

A :class:`Strategy` is the said thing, a frozen dataclass of options that a spec string builds; ``begin`` makes the core
that runs it.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from fathom.errors import SpecError
from fathom.judges.base import Verdict, Verifier, judge_needs
from fathom.reasoner import Capability, Floor
from fathom.records import Candidate, StopReason, Trajectory
from fathom.specs import Registry

if TYPE_CHECKING:
    from fathom.budget import Meter
    from fathom.reasoner import Session
    from fathom.search.then import Then

__all__ = [
    "STRATEGIES",
    "Action",
    "Conclude",
    "Drop",
    "Grow",
    "Judge",
    "Lost",
    "Search",
    "Standing",
    "Strategy",
    "Terms",
    "at_least",
]


@dataclass(frozen=True, slots=True)
class Grow:
    """Grow trajectories ``ids``; the fields are those of ``fathom.reasoner.Expansion``, with ids for trajectories."""

    ids: tuple[int, ...]
    parent: int | None = None
    units: int | None = None
    at_least: int = 0
    to_step: bool = False
    greedy: bool = False
    sources: tuple[int, ...] = ()
    feedback: str = ""
    member: int = 0
    floor: Floor | None = None


@dataclass(frozen=True, slots=True)
class Conclude:
    """Have these trajectories state their final answers."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Judge:
    """Have these trajectories judged by the strategy's judge."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Drop:
    """These trajectories are given up: those that still grow are cut, and come back so; none is asked for again."""

    ids: tuple[int, ...]


Action = Grow | Conclude | Judge | Drop


@dataclass(frozen=True, slots=True)
class Lost:
    """Trajectories that did not come back: they failed, or a limit left nothing for them (``error`` is empty then)."""

    ids: tuple[int, ...]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """The best answer so far. ``best`` is the id of the trajectory that it came from."""

    answer: str | None = None
    confidence: float = 0.0
    candidates: tuple[Candidate, ...] = ()
    best: int | None = None
    valid: bool | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """What a run lays down for its search: limits on width and depth, and the seed.

    ``drafts`` are what an earlier search has found, all with answers, the best first (``a | b``). A search that can
    use none ignores them.
    """

    width: int | None = None
    depth: int | None = None
    max_width: int | None = None
    seed: int = 0
    drafts: tuple[Trajectory, ...] = ()


class Search(ABC):
    """A running search. Subclasses keep their state in plain values only.

    The base keeps the trajectories and hands out ids. A core is done when it is asked and has nothing to do while
    nothing of what it asked for is still out; ``stopped`` then tells why, where it was not simply at its end.
    """

    judge: Verifier | None = None

    def __init__(self) -> None:
        self.trajectories: dict[int, Trajectory] = {}
        self.stopped: StopReason | None = None
        self.winding_down = False
        self.errors: list[str] = []
        self._next_id = 0

    @abstractmethod
    def ask(self, room: int) -> Sequence[Action]:
        """What to do now, with room for so many more trajectories to grow. Asked again after everything told."""

    @abstractmethod
    def tell(self, trajectory: Trajectory) -> None:
        """A trajectory came back from growing or concluding."""

    def tell_verdict(self, id: int, verdict: Verdict) -> None:
        """A judge's word on a trajectory."""
        raise NotImplementedError(f"{type(self).__name__} asks no judge")

    def tell_lost(self, lost: Lost) -> None:
        """Trajectories that were asked for will not come back."""
        if lost.error:
            self.tell_error(lost.error)

    def tell_error(self, error: str) -> None:
        """Why one that was lost, or that comes back without its answer, has none."""
        if error not in self.errors:
            self.errors.append(error)

    @property
    def losses(self) -> tuple[str, ...]:
        """Notes on what was lost."""
        return tuple(f"a sample was lost: {error}" for error in self.errors[:3])

    def brief(self, found: Any) -> None:  # noqa: B027  (most searches need none of these four)
        """What its strategy's ``scout`` has found, before anything is asked."""

    @property
    def minds_spending(self) -> bool:
        """Whether it wants to be told of spending."""
        return False

    def tell_spending(self, left: Mapping[str, float], seconds: float) -> None:  # noqa: B027
        """What is left of each limit, by name, and the seconds since the start; told before whatever has come in."""

    @property
    def ran(self) -> str:
        """What it came to run, where that was only decided on the way."""
        return ""

    def wind_down(self) -> None:
        """From now on grow nothing more: conclude and judge what there is."""
        self.winding_down = True

    @property
    @abstractmethod
    def standing(self) -> Standing:
        """The best answer so far. Cheap enough to be read after every event."""

    def take(self, drafts: Sequence[Trajectory]) -> Self:
        """Take over an earlier search's answers before anything is asked; returns the search itself."""
        self.trajectories.update((draft.id, draft) for draft in drafts)
        self._next_id = max(self._next_id, *(draft.id + 1 for draft in drafts), 0)
        return self

    def follow(self, earlier: Search) -> None:
        """Go on with the trajectories and the numbering of an earlier search."""
        self.trajectories, self._next_id = earlier.trajectories, earlier._next_id

    @property
    def at_rest(self) -> int:
        """How many unfinished trajectories wait for others to come back: to end now, they too must be concluded."""
        return 0

    def state(self) -> dict[str, Any]:
        """All that it knows now, in plain values that can be pickled: neither its judge nor what reasoners hold."""
        known: dict[str, Any] = {k: v for k, v in vars(self).items() if k != "judge" and not isinstance(v, Strategy)}
        known["trajectories"] = {id: replace(t, state=None) for id, t in self.trajectories.items()}
        return copy.deepcopy(known)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where another search of the same strategy and terms was when it gave this ``state``."""
        vars(self).update(copy.deepcopy(dict(state)))

    def new_ids(self, n: int) -> tuple[int, ...]:
        """The next ``n`` ids."""
        self._next_id += n
        return tuple(range(self._next_id - n, self._next_id))


@dataclass(frozen=True)
class Strategy(ABC):
    """How to spend a budget, said with its options. Immutable, comparable, built from a spec string."""

    needs: ClassVar[frozenset[Capability]] = frozenset()

    @abstractmethod
    def begin(self, terms: Terms) -> Search:
        """A search of its own for one run. Raises LimitError for options that the terms do not allow."""

    def scout(self, session: Session, meter: Meter) -> Any:  # noqa: B027
        """Look at a session that was opened, for the search to know (``Search.brief``). Most need nothing of it."""

    def review(self, search: Search) -> None:  # noqa: B027
        """The run is over: keep what it taught."""

    def __str__(self) -> str:
        return str(STRATEGIES.spec_of(self))

    def __or__(self, after: Strategy) -> Then:
        """This search, then another on what it found: ``a | b``."""
        from fathom.search.then import Then

        return Then(self, after)

    def judged_by(self, judge: Verifier) -> Strategy:
        """This strategy with the given judge. Raises SpecError where it asks none."""
        names = {f.name for f in fields(self)}
        if "judge" not in names:
            raise SpecError(f"{type(self).__name__} asks no judge; a verifier goes with best-of-n")
        return replace(self, judge=judge)  # type: ignore[call-arg]

    def judged_by_default(self, judge: Verifier) -> Strategy:
        """This strategy with the given judge, where it could ask one and none was named."""
        asks = "judge" in {f.name for f in fields(self)} and getattr(self, "judge", None) is None
        return self.judged_by(judge) if asks else self

    @property
    def required(self) -> frozenset[Capability]:
        """What it needs of a reasoner, as its options are, those of its judge included."""
        return self.needs | judge_needs(getattr(self, "judge", None))

    @property
    def wants(self) -> frozenset[Capability]:
        """What it needs, and what it makes use of where it is to be had."""
        return self.required


def at_least(name: str, least: int, **options: int | None) -> None:
    """Raise SpecError for an option of the strategy ``name`` that is less than ``least``."""
    for key, value in options.items():
        if value is not None and value < least:
            raise SpecError(f"{name}({key}=…) must be at least {least}, not {value!r}")


STRATEGIES: Registry[Strategy] = Registry("strategy", ["fathom.planning.auto", "fathom.planning.trust"])
"""Every strategy by name. The modules of this package fill it; those that plan join when it is first asked."""


@dataclass
class Backlog:
    """Ids that wait for the next ``ask``: what came back unfinished is concluded, what is concluded is judged."""

    conclude: list[int] = field(default_factory=list)
    judge: list[int] = field(default_factory=list)

    def drain(self) -> list[Action]:
        actions: list[Action] = []
        if self.conclude:
            actions.append(Conclude(tuple(self.conclude)))
        if self.judge:
            actions.append(Judge(tuple(self.judge)))
        self.conclude, self.judge = [], []
        return actions
