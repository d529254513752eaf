"""What to run: of all strategies, widths and depths that stay within all the limits, the one expected to do best.

The space is a fixed grid, whatever the limits are, and what a choice gives does not depend on them: so more budget can
only add choices, and never plans for less. Depth 0, an answer without reasoning, is in it: for a deadline of a fraction
of a second it may be all that fits. Equal expectations are settled by the smaller cost.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Literal

from fathom.planning.ability import Ability, Measured
from fathom.planning.cost import CostModel, Prediction
from fathom.specs import Spec

__all__ = ["WORTH", "Candidate", "Choice", "Plan", "Selection", "most_within", "plan", "widest"]

Selection = Literal["vote", "verified", "graded"]
"""How one answer of several is chosen: by count, by a verifier's word, or by a judge that grades."""

WORTH = 0.01
"""The accuracy that everything still to come must promise to be worth its cost: one point."""

DEFAULT_WIDTH = 16
_SPENDING = ("seconds", "tokens", "cost", "calls")
_WIDTHS = (1, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128)
_DEPTHS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0, 1.25, 1.5, 2.0, 3.0)  # of the usual one
_PATIENT = 4  # trajectories at a time where the outcome can wait: enough to see whether they agree
_LEAST_REASONING = 8  # units; fewer are no reasoning


@dataclass(frozen=True)
class Candidate:
    """A model that may be asked: what it costs and what it can do."""

    cost: CostModel
    ability: Ability

    @property
    def name(self) -> str:
        return self.cost.costs.name or self.cost.costs.model

    def place(self, depth: int | None) -> float:
        """Where a depth stands between no reasoning, 0, and all of it, 1: what its ability goes by."""
        return self.ability.place(depth, self.cost)


@dataclass(frozen=True)
class Choice:
    """Something that could be run, and what is expected of it. ``wave`` trajectories run at a time, or more; ``grows``:
    one more with each that has failed.

    ``whole`` is what all of it takes, ``prediction`` what it is expected to, stopping when more is not worth it.
    """

    strategy: str
    member: int
    model: str
    width: int
    depth: int | None
    wave: int
    accuracy: float
    interval: tuple[float, float]
    whole: Prediction
    expected: Callable[[], Prediction] = field(repr=False, compare=False)
    grows: bool = False

    @cached_property
    def prediction(self) -> Prediction:
        return self.expected()

    @property
    def _preference(self) -> tuple[float, ...]:
        seconds, dollars = self.whole.seconds, self.whole.dollars
        cheap = dollars or 0.0, self.whole.tokens, math.inf if seconds is None else seconds
        return (-round(self.accuracy, 9), *cheap, self.width)

    def told(self) -> str:
        """In one line, for people."""
        seconds, dollars = self.prediction.seconds, self.prediction.dollars
        half = max(self.accuracy - self.interval[0], self.interval[1] - self.accuracy)
        parts = [self.strategy, f"{self.accuracy:.0%} ± {half:.0%} right"]
        parts += [] if seconds is None else [f"about {seconds:.2g} s{_within(self.prediction.seconds_range, '.2g')}"]
        parts += [f"{self.prediction.tokens:.0f} tokens{_within(self.prediction.tokens_range, '.0f')}"]
        parts += [] if dollars is None else [f"${dollars:.2g}"]
        return ", ".join(parts)


def _within(found: tuple[float, float] | None, form: str) -> str:
    """Where eight runs of ten are expected to lie, for people."""
    return "" if found is None else f" ({found[0]:{form}} to {found[1]:{form}})"


@dataclass(frozen=True)
class Plan:
    """What is chosen, and the two that come next. ``fits`` is False where even the least is more than the limits allow:
    then it is begun all the same, for an answer may still come of it."""

    choice: Choice
    runners_up: tuple[Choice, ...]
    limits: Mapping[str, float]
    fits: bool = True
    notes: tuple[str, ...] = ()

    def explained(self) -> str:
        """Why, in a few lines."""
        limits = ", ".join(f"{name} {value:g}" for name, value in self.limits.items()) or "no limits"
        lines = [f"within {limits}: {self.choice.told()}, by {self.choice.model}"]
        lines += [f"rather than {other.told()}" for other in self.runners_up]
        return "\n".join([*lines, *self.notes])


@dataclass(frozen=True)
class _Shape:
    """A width and a depth on one candidate. What it costs and gives is worked out when asked for."""

    member: int
    candidate: Candidate
    width: int
    depth: int | None
    selection: Selection
    worth: float

    @cached_property
    def accuracy(self) -> float:
        candidate = self.candidate
        return candidate.ability.accuracy(
            self.width,
            candidate.place(self.depth),
            verified=self.selection == "verified",
            greedy=self._greedy,
        )

    @property
    def _greedy(self) -> bool:
        """Whether the likeliest line of thought is the first: one alone always is."""
        return self.width == 1 or self.candidate.cost.costs.greedy

    def fitting_wave(self, limits: Mapping[str, float], room: int | None) -> int | None:
        """The most patient wave that stays within the limits, or None where none does. Where nothing is known of time,
        it is left to the driver's clock."""
        predict, hurries = self.candidate.cost.predict, "seconds" in limits and not self.candidate.cost.timed
        kept = {name: limit for name, limit in limits.items() if not (hurries and name == "seconds")}
        waves = self._waves(room, hurries, self._least_wave(limits))
        return next((wave for wave in waves if predict(self.width, self.depth, wave).within(kept)), None)

    def _least_wave(self, limits: Mapping[str, float]) -> int:
        """Trajectories at a time that waste nothing: a verifier may accept the first, where there is time to see."""
        return 1 if self.selection == "verified" and "seconds" not in limits else _PATIENT

    def _waves(self, room: int | None, hurries: bool, least: int) -> Iterable[int]:
        most = (
            self.width if self.depth == 0 else min(self.width, room or self.width)
        )  # what states its answer grows not
        if hurries:
            return (most, *(w for w in reversed(_WIDTHS) if w < most))  # who knows how long it takes waits for nothing
        patient = min(most, least)
        wider = [w for w in _WIDTHS if patient < w < most] + ([most] if most > patient else [])
        return (patient, *wider, *(w for w in (2, 1) if w < patient))

    def with_wave(self, wave: int, limits: Mapping[str, float]) -> Choice:
        """This shape as a choice. What is expected of it ends where the limits end it."""
        cost, ability = self.candidate.cost, self.candidate.ability
        racing = self.selection == "verified"
        grows = wave == self._least_wave(limits) == 1
        return Choice(
            self._spec,
            self.member,
            self.candidate.name,
            self.width,
            self.depth,
            wave,
            self.accuracy,
            ability.interval(self.accuracy),
            cost.predict(self.width, self.depth, wave),
            lambda: cost.expect(self.width, self.depth, wave, self._draws, racing=racing, grows=grows).held(limits),
            grows,
        )

    @property
    def _draws(self) -> tuple[float, ...]:
        """The chances of 1, 2, … samples; none where all are drawn in any case."""
        population = self.candidate.ability.population(self.candidate.place(self.depth))
        if self.selection == "verified":
            return population.attempts(self.width)
        if self.selection == "graded":
            return ()
        width = min(self.width, DEFAULT_WIDTH)  # a wider one goes on only where it is close
        return population.draws(width, self.worth, greedy=self._greedy)

    @property
    def _spec(self) -> str:
        depth = {} if self.depth is None else {"depth": self.depth}
        if self.selection != "vote":
            return str(Spec("best-of-n", {"width": self.width, **depth}))
        return str(Spec("vote", {"width": self.width, **depth}) if self.width > 1 else Spec("direct", depth))


def plan(
    candidates: Candidate | Sequence[Candidate],
    limits: Mapping[str, float],
    *,
    selection: Selection = "vote",
    room: int | None = None,
    queue_seconds: float = 0.0,
    worth: float = WORTH,
) -> Plan:
    """The plan for one model, or for the one of several that is expected to do best.

    ``limits`` are those of a budget, by name. ``room`` trajectories may run together now, and nothing is expected to
    begin before ``queue_seconds``: what a gateway under load knows.
    """
    candidates = [candidates] if isinstance(candidates, Candidate) else list(candidates)
    left = dict(limits)
    if "seconds" in left:
        left["seconds"] -= queue_seconds
    shapes = [s for i, c in enumerate(candidates) for s in _shapes(i, c, left, selection, worth)]
    best = sorted(_feasible(shapes, left, room), key=lambda at: -round(at[0].accuracy, 9))
    third = round(best[min(3, len(best)) - 1][0].accuracy, 9) if best else 0.0
    fitting = [
        s.with_wave(wave or s.fitting_wave(left, room) or 1, left) for s, wave in best if round(s.accuracy, 9) >= third
    ]
    fitting += [c for i, one in enumerate(candidates) for c in _measured(i, one, left, selection)]
    fitting.sort(key=lambda choice: choice._preference)
    notes = tuple(dict.fromkeys(_notes(candidates, left)))
    if not fitting:
        least = min(shapes, key=lambda s: (s.width, math.inf if s.depth is None else s.depth))
        return Plan(
            least.with_wave(1, left), (), limits, False, (*notes, "even the least does not fit; it is tried anyway")
        )
    return Plan(fitting[0], tuple(_different(fitting)[1:3]), limits, True, notes)


def _shapes(
    member: int, candidate: Candidate, limits: Mapping[str, float], selection: Selection, worth: float
) -> Iterator[_Shape]:
    costs = candidate.cost.costs
    most = limits.get("width", widest(limits, selection))
    widths = [w for w in _WIDTHS if w <= min(most, costs.max_width or most)]
    if not costs.countable and selection == "vote":
        widths = [1]
    depths: set[int | None] = {round(share * costs.depth) for share in _DEPTHS}
    if costs.unit_tokens > 0:
        depths = {depth for depth in depths if (depth or 0) >= _LEAST_REASONING} | {0}
    depths = {depth for depth in depths if (depth or 0) <= (costs.most_depth or math.inf)} | {None}
    if not costs.countable:
        depths = {None}  # the whole text is the answer: one that is cut is none
    for depth in sorted(depths, key=lambda d: math.inf if d is None else d):
        for width in widths:
            yield _Shape(member, candidate, width, depth, selection, worth)


def _feasible(shapes: Iterable[_Shape], limits: Mapping[str, float], room: int | None) -> Iterator[tuple[_Shape, int]]:
    """The shapes that fit, each with its wave, 0 where that was not looked for.

    Of one depth all widths fit up to a certain one: that one is searched for.
    """
    for _, group in itertools.groupby(shapes, key=lambda shape: (shape.member, shape.depth)):
        widths = list(group)
        waves = [0] * len(widths)
        low, high = -1, len(widths) - 1
        while low < high:
            at = (low + high + 1) // 2
            waves[at] = widths[at].fitting_wave(limits, room) or 0
            low, high = (at, high) if waves[at] else (low, at - 1)
        yield from ((shape, waves[at]) for at, shape in enumerate(widths[: low + 1]))


def widest(limits: Mapping[str, float], selection: Selection) -> int:
    """Trajectories at most where no width is laid down.

    One right answer ends a search with a verifier, and a wrong one is worth nothing: so it is given all of the grid
    where anything limits what it spends.
    """
    spends_it_all = selection == "verified" and any(name in limits for name in _SPENDING)
    return _WIDTHS[-1] if spends_it_all else DEFAULT_WIDTH


def most_within(
    candidate: Candidate,
    limits: Mapping[str, float],
    depth: int | None,
    *,
    most: int,
    room: int | None = None,
    selection: Selection = "vote",
) -> tuple[int, int]:
    """How many trajectories of this depth, up to ``most``, stay within limits, and how many of them at a time for that.

    None at all is (0, 1).
    """
    low, high, found = 0, most, 1
    while low < high:
        width = (low + high + 1) // 2
        wave = _Shape(0, candidate, width, depth, selection, 0.0).fitting_wave(limits, room)
        low, high, found = (low, width - 1, found) if wave is None else (width, high, wave)
    return low, found


def _measured(member: int, candidate: Candidate, limits: Mapping[str, float], selection: Selection) -> Iterator[Choice]:
    """Strategies beyond voting that a profile has figures of, each taken at a standard error less than it measured: the
    best of several noisy figures is too good, and a vote can end early."""
    if selection != "vote":
        return
    for point in candidate.ability.others:
        prediction = _prediction_of(candidate, point)
        if prediction.within(limits):
            yield Choice(
                point.strategy,
                member,
                candidate.name,
                point.width,
                point.depth,
                point.width,
                max(0.0, point.accuracy - (point.high - point.low) / (2 * 1.96)),
                (point.low, point.high),
                prediction,
                partial(_prediction_of, candidate, point),
            )


def _prediction_of(candidate: Candidate, point: Measured) -> Prediction:
    most = dict(candidate.cost.predict(point.width, point.depth, point.width).most)
    if point.seconds is not None:
        most["seconds"] = max(most.get("seconds", 0.0), 1.5 * point.seconds)
    return Prediction(point.seconds, point.tokens, None, most)


def _different(choices: Sequence[Choice]) -> list[Choice]:
    """Of choices that differ in nothing but a little depth the best one: so that the runners-up tell something."""
    seen: dict[tuple[object, ...], Choice] = {}
    for choice in choices:
        seen.setdefault((choice.member, choice.strategy.partition("(")[0], choice.width, choice.depth == 0), choice)
    return list(seen.values())


def _notes(candidates: Sequence[Candidate], limits: Mapping[str, float]) -> Iterator[str]:
    for candidate in candidates:
        if not candidate.ability.measured:
            yield f"{candidate.name}: planned from {candidate.ability.source}; `fathom calibrate` measures"
        if "seconds" in limits and not candidate.cost.timed:
            yield f"{candidate.name}: its speed is not known yet, so the deadline alone holds it"
