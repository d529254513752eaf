"""Self-consistency (arXiv 2203.11171): sample many chains of thought and let their answers vote, and stop as soon as
more samples would hardly change the outcome (Adaptive-Consistency, arXiv 2305.11860).

With ``confidence`` votes weigh as much as the model was sure of its own words, and lines of thought in which it becomes
unsure are given up (DeepConf, arXiv 2508.15260)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fathom.errors import SpecError
from fathom.judges import stopping
from fathom.judges.confidence import Stretch, over
from fathom.judges.self_certainty import confidences
from fathom.judges.votes import Tally
from fathom.reasoner import Capability, Floor
from fathom.records import StopReason, Trajectory
from fathom.search.base import STRATEGIES, Action, Drop, Grow, Strategy, Terms, at_least
from fathom.search.samples import SampleSearch, agreed_width
from fathom.specs import option

__all__ = ["SURE", "Rule", "Vote"]

LEAST_WARMUP = 4

Rule = Literal["outcome", "beta", "dirichlet", "certain", "never"]

SURE: Mapping[str, Callable[[Sequence[int], int, float], float]] = {
    "outcome": lambda counts, remaining, least: 1.0 - stopping.chance_of_losing(counts, remaining, enough=1.0 - least),
    "beta": lambda counts, remaining, least: stopping.beats_runner_up(counts),
    "dirichlet": lambda counts, remaining, least: stopping.is_mode(counts),
    "certain": lambda counts, remaining, least: float(stopping.cannot_change(counts, remaining)),
}
"""How sure each rule is of the leader, from the votes for each answer and the number of samples still to come. What is
less than ``least`` need not be exact."""


@STRATEGIES.register("vote", source="arXiv 2203.11171, 2305.11860; confidence: DeepConf, arXiv 2508.15260")
@dataclass(frozen=True)
class Vote(Strategy):
    """Sample chains of thought and let their answers vote, stopping when the outcome is settled."""

    width: int | None = option(None, "samples at most (default: the budget's width, else 16)")
    depth: int | None = option(None, "units of reasoning for each at most; 0 answers at once")
    at_least: int = option(0, "units of reasoning for each at least (budget forcing)")
    wave: int | None = option(None, "samples to run at a time (default: what the model runs well together)")
    stop: Rule = option(
        "outcome",
        "when to stop early: outcome (the remaining samples are unlikely to change the leader), beta, dirichlet (the "
        "leader is likely the true mode, against the runner-up or against all), certain, never",
    )
    sure: float = option(0.95, "how sure the rule must be")
    greedy: bool = option(False, "begin with the likeliest line of thought, and draw the others (one alone always is)")
    confidence: Stretch | None = option(
        None,
        "weigh votes by how sure the model was: mean (of all tokens), tail, group (the least sure stretch), bottom "
        "(the least sure tenth of all stretches); default: one vote each",
    )
    window: int = option(64, "tokens of a stretch and of the tail, with confidence (the paper: 2048)")
    keep: float = option(0.9, "the share of warm-up samples whose least sure stretch the later ones must reach")
    warmup: int | None = option(None, "samples that set the bar, with confidence (default: a quarter, at least 4)")

    def __post_init__(self) -> None:
        if not 0.5 <= self.sure <= 1:
            raise SpecError(f"vote(sure=…) must lie between 0.5 and 1, not {self.sure!r}")
        at_least("vote", 1, wave=self.wave, window=self.window, warmup=self.warmup)
        if not 0 < self.keep <= 1:
            raise SpecError(f"vote(keep=…) must lie above 0 and be at most 1, not {self.keep!r}")
        if self.confidence is not None and self.stop == "certain":
            raise SpecError("vote(stop=certain) goes with no confidence: nobody knows what a later vote may weigh")

    @property
    def required(self) -> frozenset[Capability]:
        return frozenset() if self.confidence is None else frozenset({Capability.TOP_LOGPROBS})

    def begin(self, terms: Terms) -> VoteSearch:
        depth = self.depth if self.depth is not None else terms.depth
        search = VoteSearch if self.confidence is None else ConfidentVoteSearch
        return search(self, agreed_width(self.width, terms), depth).take(terms.drafts)


class VoteSearch(SampleSearch):
    """The running vote."""

    def __init__(self, said: Vote, width: int, depth: int | None) -> None:
        super().__init__(width, depth, said.at_least, greedy=said.greedy or width == 1, wave=said.wave)
        self.said = said

    def settle(self, trajectory: Trajectory) -> None:
        self.count(trajectory)
        self.decide()

    def decide(self) -> None:
        """Stop where the rule is sure enough."""
        if self.said.stop == "never" or self.remaining == 0 or self.winding_down:
            return
        counts = self.votes
        if counts and SURE[self.said.stop](counts, self.remaining, self.said.sure) >= self.said.sure:
            self.stopped = StopReason.DECIDED

    @property
    def votes(self) -> list[int]:
        """How many votes each answer has, as the rules count them."""
        return self.tally.counts


class ConfidentVoteSearch(VoteSearch):
    """The running vote by confidence. Drafts of an earlier search count as warm-up.

    The first few samples, the warm-up, run to their ends. The least sure stretch of each is found, and the bar is set
    where the surest ``keep`` of them are above it. Later samples are cut at the moment at which a stretch of theirs
    falls under the bar; neither they nor what of the warm-up was under it votes. A vote weighs what its sample's
    confidence is to that of the warm-up on average: so the weights sum to about as many as voted, and the stopping
    rules hold of them.
    """

    def __init__(self, said: Vote, width: int, depth: int | None) -> None:
        super().__init__(said, width, depth)
        self.warmup = min(width, said.warmup or max(LEAST_WARMUP, width // 4))
        self.bar: float | None = None
        self.usual = 1.0  # the mean confidence of the warm-up
        self.weak: list[int] = []  # cut, or of the warm-up and under the bar
        self._drop: list[int] = []

    def ask(self, room: int) -> Sequence[Action]:
        if self.bar is None and self.started >= self.warmup and len(self.settled) + self.failed >= self.started:
            self._set_bar()
        if self.bar is None:
            room = min(room, self.warmup - self.started)
        drop, self._drop = self._drop, []
        floor = None if self.bar is None else Floor(self.said.window, self.bar)
        asked = [replace(action, floor=floor) if isinstance(action, Grow) else action for action in super().ask(room)]
        return [Drop(tuple(drop)), *asked] if drop else asked

    def tell(self, trajectory: Trajectory) -> None:
        if trajectory.reason == "weak" and self.tally.leader is not None:
            self.trajectories[trajectory.id] = trajectory
            self.settled.append(trajectory.id)
            self.weak.append(trajectory.id)
            self._drop.append(trajectory.id)
            self.decide()
        else:
            super().tell(trajectory)

    def settle(self, trajectory: Trajectory) -> None:
        self.count(trajectory, self._weight(trajectory))
        self.decide()

    def decide(self) -> None:
        if self.bar is not None:
            super().decide()

    def _set_bar(self) -> None:
        """The warm-up is over: what of it is under the bar goes, and the rest is counted by weight."""
        there = [self.trajectories[id] for id in self.settled]
        least = {t.id: x for t in there if (x := self._confidence(t, "group")) is not None}
        self.bar = -math.inf
        if least:
            self.bar = sorted(least.values(), reverse=True)[math.ceil(self.said.keep * len(least)) - 1]
            means = [x for id in least if (x := self._confidence(self.trajectories[id])) is not None]
            self.usual = math.fsum(means) / len(means) or 1.0
        self.weak += [id for id, x in least.items() if x < self.bar]
        self.tally, self._whole = Tally(), {}
        for trajectory in there:
            if trajectory.id not in self.weak:
                self.count(trajectory, self._weight(trajectory))
        self.decide()

    def _confidence(self, trajectory: Trajectory, of: Stretch | None = None) -> float | None:
        values = confidences(trajectory.top_logprobs)
        measure = of or self.said.confidence
        return over(values, measure, self.said.window) if values and measure is not None else None

    def _weight(self, trajectory: Trajectory) -> float:
        """1 in the warm-up, and for what came without log-probabilities."""
        confidence = None if self.bar is None else self._confidence(trajectory)
        return 1.0 if confidence is None else max(0.0, confidence / self.usual)

    @property
    def votes(self) -> list[int]:
        return [round(standing.votes) for standing in self.tally.ranking() if standing.parsed]

    @property
    def notes(self) -> tuple[str, ...]:
        weak = f"{len(self.weak)} of {len(self.settled)} lines of thought were too unsure to vote"
        return (*super().notes, *((weak,) if self.weak else ()))
