"""``auto``: run what the plan says is best within the limits, look at what comes, and plan again.

The first samples tell an easy question from a hard one: how they agree, not how the prompt is worded. Another one is
started only if it would be wanted even should all that are still out agree with the leader; so easy questions end early
and what they save stays unspent, and hard ones get what there is. After everything that comes in the width is planned
anew from what is left and from the time and length that the samples so far really had.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fathom.budget import Meter
from fathom.costs import Costs
from fathom.errors import SpecError
from fathom.judges.base import Timing, Verdict, Verifier, most_of, timing_of
from fathom.judges.registry import judge_option
from fathom.planning.cost import CostModel
from fathom.planning.learned import learned, remember
from fathom.planning.outlook import Outlook, survey
from fathom.planning.plan import WORTH, Candidate, Choice, Plan, Selection, most_within, plan, widest
from fathom.planning.population import Population
from fathom.planning.prior import prior
from fathom.planning.probing import probe
from fathom.planning.stage import Stage
from fathom.reasoner import Session
from fathom.records import StopReason, Trajectory
from fathom.search import BestOfN, Vote
from fathom.search.base import STRATEGIES, Action, Drop, Grow, Lost, Search, Standing, Strategy, Terms
from fathom.search.judged import JudgedSearch
from fathom.search.samples import SampleSearch
from fathom.specs import option

__all__ = ["Auto", "AutoSearch"]

_SHARED = ("tokens", "cost", "memory_bytes")
"""Limits that trajectories share out among them: under these each is held to its planned depth. Depth under a deadline
is the driver's to cut."""

_ENOUGH = (3.0, 2.0, 1.5)  # of the usual depth


@STRATEGIES.register("auto", source="expected gain of more samples; compute-optimal width as in arXiv 2408.03314")
@dataclass(frozen=True)
class Auto(Strategy):
    """Plan strategy, width and depth from the limits, and again while running; stop where more would hardly help."""

    judge: Verifier | None = judge_option(None, "who decides: then it plans attempts, and a verifier's yes ends them")
    width: int | None = option(None, "samples at most (default: the budget's width, else 16, or 128 before a verifier)")
    depth: int | None = option(None, "units of reasoning for each at most; 0 answers at once")
    worth: float = option(WORTH, "the gain in accuracy below which all that could still be spent is saved")
    profile: str | None = option(None, "a profile's file (default: the latest one of this model that is kept)")

    def __post_init__(self) -> None:
        if not 0 <= self.worth < 1:
            raise SpecError(f"auto(worth=…) must lie between 0 and 1, not {self.worth!r}")

    @property
    def selection(self) -> Selection:
        if self.judge is None:
            return "vote"
        return "verified" if timing_of(self.judge) is Timing.EACH else "graded"

    def scout(self, session: Session, meter: Meter) -> Outlook:
        return survey(session, meter, self.profile)

    def begin(self, terms: Terms) -> AutoSearch:
        judged = self.judge is not None
        planned = BestOfN(self.width, self.judge, depth=self.depth) if judged else Vote(self.width, self.depth)
        planned.begin(terms)  # what cannot be begun is refused
        return AutoSearch(self, terms)

    def review(self, search: Search) -> None:
        if isinstance(search, AutoSearch):
            search.teach()


def _depths(planned: int | None, usual: float) -> Sequence[int | None]:
    """Depths to give a further sample: as planned, or else as is enough for most chains of the usual length."""
    return [planned, *(d for share in _ENOUGH if (d := round(share * usual)) < (planned or 0))]


class AutoSearch(Search):
    """The running plan. It drives the searches that it plans, and shares its trajectories with them."""

    def __init__(self, said: Auto, terms: Terms) -> None:
        super().__init__()
        self.said = said
        self.terms = terms
        unknown = Costs("this model", max_width=terms.max_width)
        self.outlook = Outlook({0: Candidate(CostModel(unknown), prior(unknown))}, {})
        self.stages: list[Stage] = []
        self.left: dict[str, float] = {}
        self.seconds = 0.0
        self._stage_of: dict[int, int] = {}
        self._aim = 0.0  # the expected accuracy that a probe must come up to
        self._climbs = False

    @property
    def judge(self) -> Verifier | None:  # type: ignore[override]
        return self.said.judge

    @property
    def minds_spending(self) -> bool:
        return True

    def brief(self, found: Outlook) -> None:
        self.outlook = found
        self.left = dict(found.limits)

    def tell_spending(self, left: Mapping[str, float], seconds: float) -> None:
        self.left, self.seconds = dict(left), seconds

    # Planning

    @property
    def limits(self) -> dict[str, float]:
        """What is left, and what the strategy and the terms themselves lay down."""
        limits = dict(self.left)
        for name, own in (("width", self.said.width), ("depth", self.said.depth), ("depth", self.terms.depth)):
            if own is not None:
                limits[name] = min(own, limits.get(name, own))
        if self.terms.width is not None:
            begun = sum(stage.samples.started for stage in self.stages if stage.samples is not None)
            begun -= len(self.terms.drafts) if self.stages else 0  # which the first stage counts as its own
            limits["width"] = min(limits.get("width", self.terms.width), self.terms.width - begun)
        return limits

    @property
    def now(self) -> Stage:
        return self.stages[-1]

    def _candidate(self, member: int) -> Candidate:
        """The model, with the time and the length that this run has shown it to have."""
        told = self.outlook.candidates[member]
        costs, drag = told.cost.costs, told.cost.drag
        for stage in self.stages:
            if stage.member == member:
                drag = stage.drag or drag
                lengths = [told.cost.costs.depth, *stage.lengths(told.cost)]  # one question's tell of its others
                costs = replace(costs, depth=statistics.fmean(lengths), differ=costs.differ / math.sqrt(len(lengths)))
        return replace(told, cost=CostModel(costs, drag, told.cost.pace_spread))

    def _plan(self, members: Sequence[int], room: int) -> Plan:
        candidates = [self._candidate(member) for member in members]
        said = self.said
        found = plan(candidates, self.limits, selection=said.selection, room=max(1, room), worth=said.worth)
        return replace(found, choice=replace(found.choice, member=members[found.choice.member]))

    def _begin(self, room: int) -> None:
        """Plan, for so many samples at a time as there is room for now."""
        members = sorted(self.outlook.candidates)
        if self.stages:
            members = [m for m in members if m > self.now.member] or [self.now.member]
            found = self._plan(members, room)
            self._start(found.choice if found.fits else self._plan([self.now.member], room).choice)
            return
        best = self._plan(members, room).choice
        candidates = {member: self._candidate(member) for member in members}
        voting = self.said.judge is None and best.strategy.partition("(")[0] in ("vote", "direct")
        first = probe(candidates, best, self.limits, worth=self.said.worth) if voting and len(members) > 1 else None
        self._aim = best.accuracy - self.said.worth
        self._start(first or best, probes=first is not None)

    def _start(self, choice: Choice, *, probes: bool = False) -> None:
        shared = any(name in self.limits for name in _SHARED)
        own = [d for d in (self.said.depth, self.terms.depth) if d is not None]
        planned = [choice.depth] if choice.depth is not None and (shared or choice.depth == 0) else []
        depth = min([*own, *planned], default=None)
        search = self._search(choice.strategy, choice.width, depth)
        self.trajectories.update(search.trajectories)  # drafts
        self._stage_of.update(dict.fromkeys(search.trajectories, len(self.stages)))
        self._next_id = max(self._next_id, search._next_id)
        search.follow(self)
        self.stages.append(Stage.of(choice, depth, search, probe=probes))
        if (samples := self.now.samples) is not None:
            samples.greedy = samples.greedy or self._greedy(self.now)

    def _search(self, strategy: str, width: int, depth: int | None) -> Search:
        width = max(1, min(width, self.terms.width or width, most_of(self.said.judge) or width))
        terms = replace(self.terms, depth=depth, drafts=() if self.stages else self.terms.drafts)
        if self.said.judge is not None:
            return BestOfN(width=width, judge=self.said.judge, depth=depth).begin(terms)
        if strategy.partition("(")[0] in ("vote", "direct"):
            return Vote(width=width, depth=depth, stop="never").begin(terms)
        return STRATEGIES.build(strategy).begin(terms)

    # Running

    def ask(self, room: int) -> Sequence[Action]:
        if self.stopped is not None:
            return ()
        actions: list[Action] = []
        if (not self.stages or self._climbs) and not self.winding_down:
            if late := tuple(id for id in self._stage_of if id not in self.trajectories):
                actions.append(Drop(late))
            self._begin(room)
            self._climbs = False
        if not self.stages:
            return ()
        stage = self.now
        if not self.winding_down:
            self._widen(stage)
            wanted = self._wanted(stage)
            room = wanted if stage.depth == 0 else min(room, wanted)  # what states its answer at once does not grow
        for action in stage.search.ask(room):
            if isinstance(action, Grow):
                self._stage_of.update(dict.fromkeys(action.ids, len(self.stages) - 1))
                stage.began.update(dict.fromkeys(action.ids, (self.seconds, stage.out)))
                actions.append(replace(action, member=stage.member))
            else:
                actions.append(action)
        self._next_id = stage.search._next_id
        return actions

    def _widen(self, stage: Stage) -> None:
        """Plan the width anew from what is left, whenever more has come in since."""
        search = stage.samples
        if search is None or stage.probe or not self.left or stage.planned == len(search.settled):
            return
        stage.planned = len(search.settled)
        countable = self.outlook.candidates[stage.member].cost.costs.countable or self.said.judge is not None
        limits = self.limits
        more = max(0, min(int(limits.get("width", self._most)), self._most - search.started)) if countable else 0
        left = {name: limit for name, limit in limits.items() if name not in ("width", "depth")}
        candidate = self._candidate(stage.member)
        found, best = 0, 0.0
        for depth in _depths(search.depth, candidate.cost.costs.depth):
            fits, wave = most_within(candidate, left, depth, most=more, selection=self.said.selection)
            promised = self._promised(stage, candidate, search.started + fits, depth)
            if fits and promised > best:
                found, best, search.depth, stage.wave = fits, promised, depth, wave
        search.width = search.started + found
        if search.width == 2 > search.started and self.said.judge is None:
            search.width = 1  # a second vote can only make a tie
        search.greedy = search.width == 1 or self._greedy(stage)

    def _promised(self, stage: Stage, candidate: Candidate, width: int, depth: int | None) -> float:
        """The accuracy that so many samples of this depth promise."""
        verified, greedy = self.said.selection == "verified", width == 1 or self._greedy(stage)
        return candidate.ability.accuracy(width, candidate.place(depth), verified=verified, greedy=greedy)

    def _greedy(self, stage: Stage) -> bool:
        """Whether the likeliest trajectory is to be the first sample."""
        return self.outlook.candidates[stage.member].cost.costs.greedy

    @property
    def _most(self) -> int:
        """Samples at most, whatever is left, drafts besides."""
        terms = self.terms
        default = widest(self.left, self.said.selection)
        most = self.said.width or terms.width or min(default, terms.max_width or default)
        return min(most, terms.width or most, most_of(self.said.judge) or most) + len(terms.drafts)

    def _wanted(self, stage: Stage) -> int:
        """How many more to start now: what the plan runs at a time, and whatever would be wanted in any case."""
        search = stage.samples
        if search is None:
            return 1 << 20
        left = max(0, search.width - search.started)
        over = search.started - search.busy
        most = min(left, max(0, stage.wave + over * stage.grows - search.busy))
        if self.said.judge is None and not stage.probe:
            population, seen = self._population(stage), stage.seen
            while most < left and population.goes_on(seen.agreeing(stage.out + most), search.width, self.said.worth):
                most += 1
        return most

    def _population(self, stage: Stage) -> Population:
        told = self.outlook.candidates[stage.member]
        return told.ability.population(told.place(stage.depth))

    def tell(self, trajectory: Trajectory) -> None:
        self.trajectories[trajectory.id] = trajectory
        stage = self.stages[self._stage_of[trajectory.id]]
        self._time(stage, trajectory)
        if stage is self.now and not self._climbs:
            stage.search.tell(trajectory)
            self._heed(stage)

    def _time(self, stage: Stage, trajectory: Trajectory) -> None:
        """What a sample that came back from growing took, against what its model's account of itself says."""
        told = self.outlook.candidates[stage.member].cost
        began, beside = stage.began.pop(trajectory.id, (0.0, 0))
        took = self.seconds - began
        if not (beside and took > 0 and trajectory.depth):
            return
        if not told.timed:
            stage.unit_seconds[beside] = took / trajectory.depth
            return
        read = told.costs.read_seconds if stage.drag is None else 0.0
        ratio = took / (read + trajectory.depth * told.costs.step(beside))
        before = stage.drag or told.drag
        stage.drag = before * max(1 / 3, min(3.0, ratio / before)) ** 0.5

    def _heed(self, stage: Stage) -> None:
        """Go on, stop, or leave the rest to a better model."""
        search = stage.samples
        if stage.search.stopped is not None:
            self.stopped = stage.search.stopped
        elif search is None or self.winding_down:
            return
        elif stage.probe:
            self._heed_probe(stage, search)
        elif self._enough(stage, search):
            self.stopped = StopReason.DECIDED

    def _heed_probe(self, stage: Stage, search: SampleSearch) -> None:
        """All agree: that is the answer. They differ: the better model is asked, at once."""
        seen = stage.seen
        if seen.first < seen.votes or search.failed:
            self._climbs = True
        elif not search.remaining:
            sure = self._population(stage).forecast(seen, seen.votes).now >= self._aim
            self.stopped = StopReason.DECIDED if sure else None
            self._climbs = not sure

    def _enough(self, stage: Stage, search: SampleSearch) -> bool:
        """Whether all that could still come is not worth it."""
        if search.remaining <= 0 or not search.settled:
            return False  # at its end it ends by itself
        population, worth = self._population(stage), self.said.worth
        if self.said.selection == "vote":
            return not population.goes_on(stage.seen, search.width, worth)
        if self.said.selection == "graded" or search.backlog.judge:
            return False
        failures = (
            [v for v in search.verdicts.values() if v.passed is False] if isinstance(search, JudgedSearch) else []
        )
        return population.unfound(len(failures), search.width) < worth

    def tell_verdict(self, id: int, verdict: Verdict) -> None:
        stage = self.stages[self._stage_of[id]]
        stage.search.tell_verdict(id, verdict)
        self._heed(stage)

    def tell_lost(self, lost: Lost) -> None:
        super().tell_lost(lost)
        for index in {self._stage_of[id] for id in lost.ids}:
            ids = tuple(id for id in lost.ids if self._stage_of[id] == index)
            self.stages[index].search.tell_lost(replace(lost, ids=ids))
        if self.stages and self.now.probe and lost.error:
            self._climbs = not self.winding_down

    def tell_error(self, error: str) -> None:
        super().tell_error(error)
        if self.stages:
            self.now.search.tell_error(error)

    def wind_down(self) -> None:
        super().wind_down()
        if self.stages:
            self.now.search.wind_down()

    @property
    def at_rest(self) -> int:
        return self.now.search.at_rest if self.stages else 0

    # What came of it

    @property
    def ran(self) -> str:
        """The strategies that were really run, each with its model where there are several."""
        several = len(self.outlook.candidates) > 1
        return " | ".join(f"{s.told} by {s.model}" if several else s.told for s in self.stages)

    @property
    def standing(self) -> Standing:
        """That of the stage whose leader is likeliest to be right."""
        answered = [(s, said) for s in self.stages if (said := s.search.standing).answer is not None]
        if not answered:
            return self.stages[-1].search.standing if self.stages else Standing()
        _, standing = max(answered, key=lambda at: self._likely(at[0])) if len(answered) > 1 else answered[0]
        notes = (*standing.notes, *self.losses, *self.outlook.notes)
        return replace(standing, notes=tuple(dict.fromkeys(notes)))

    def _likely(self, stage: Stage) -> float:
        seen = stage.seen
        return self._population(stage).forecast(seen, seen.votes).now if seen.first else 0.0

    def teach(self) -> None:
        """Keep what the run showed of time and length, for the next ones."""
        for stage in self.stages:
            told = self.outlook.candidates[stage.member].cost
            known = learned(told.costs.model, told.costs.engine)
            lengths = stage.lengths(told)
            length = statistics.fmean(lengths) if lengths else None
            known = known.after(stage.drag, length, stage.unit_seconds, told.costs.kind)
            remember(told.costs.model, told.costs.engine, known)

    def state(self) -> dict[str, Any]:
        own = {name: value for name, value in vars(self).items() if name not in ("said", "terms", "stages", "outlook")}
        own["trajectories"] = {id: replace(t, state=None) for id, t in self.trajectories.items()}
        return {**copy.deepcopy(own), "stages": [stage.state() for stage in self.stages]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where it was; what it knew of its models is briefed anew."""
        own = copy.deepcopy(dict(state))
        self.stages = []
        for said in own.pop("stages"):
            search = self._search(said["strategy"], said["width"], said["depth"])
            search.restore(said.pop("search"))
            self.stages.append(Stage(search=search, **said))
        vars(self).update(own)
        for stage in self.stages:
            stage.search.trajectories = self.trajectories
