"""How long a language model takes, and how many samples a deadline therefore allows.

Where the engine's pace was measured, times are computed from it; where it is a server's, they are learned from use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist

from fathom.budget import Meter
from fathom.costs import DIFFER, SPREAD, Costs
from fathom.language.engines.base import EngineCapability, EngineTraits, Pace
from fathom.language.prompts import Form
from fathom.reasoner import Reserve

__all__ = ["DEFAULT_DEPTH", "Habits", "Timing"]

DEFAULT_DEPTH = 1024  # tokens of a chain of thought at most, where nobody says
UNLIMITED = 1 << 20
SLACK = 1.3  # short readings cost more a token than the long one that was measured
GUESSED = 4  # questions that the guess of how they differ counts for, beside those that were seen
LEARNING = 0.1  # the weight of what was just seen in a running mean, once it has seen enough
REMEMBERED = 40  # questions that a running mean with half that weight tells of
SHOWN = 20  # steps after which the drag is that of this machine now, and not what was assumed
GOLDEN = (math.sqrt(5) - 1) / 2  # whose multiples, modulo 1, fill the unit interval evenly
LEAST_DRAG, MOST_DRAG = 0.7, 5.0  # beyond these a step's time says more of what else happened in it

_NORMAL = NormalDist()


@dataclass
class Usual:
    """A running mean and the mean distance from it. The first value is a guess, which counts for one observation."""

    mean: float
    spread: float = 0.0
    seen: int = 0

    def saw(self, value: float) -> None:
        self.seen += 1
        weight = _weight(self.seen)
        self.spread += weight * (abs(value - self.mean) - self.spread)
        self.mean += weight * (value - self.mean)

    @property
    def high(self) -> float:
        """What most observations are below."""
        return self.mean + 2 * self.spread


@dataclass
class Habits:
    """What was learned of a model while using it for one ``kind`` of answer, shared by its sessions: running means,
    first values as priors."""

    kind: str = ""
    depth: float = 48.0  # tokens of a finished chain of thought
    conclusion: Usual = field(default_factory=lambda: Usual(6.0, 1.5))  # its tokens
    drag: float = 1.0  # how much slower steps are now than when the pace was measured
    call_seconds: Usual = field(default_factory=lambda: Usual(0.05))  # of a conclusion by a server, once it was asked
    first_seconds: Usual = field(default_factory=lambda: Usual(0.05))  # until a server's first token
    token_seconds: Usual = field(default_factory=lambda: Usual(0.0))  # of each that follows
    questions: int = 0  # of which it is known how long their chains become
    cuts: int = 0  # chains that did not come to their own end
    log_depth: float = math.log(48.0) - (SPREAD**2 + DIFFER**2) / 2  # the mean logarithm of their length
    within: float = SPREAD**2  # the variance of that on one question
    between: float = DIFFER**2  # and that of the questions' own means
    steps: float = 0.0  # that were timed

    @property
    def shown_drag(self) -> float | None:
        """The drag, once there were steps enough to show it."""
        return self.drag if self.steps >= SHOWN else None


class Timing:
    """What a session on one question expects of time. ``unread`` counts the tokens of its prompt still to be read."""

    def __init__(self, traits: EngineTraits, form: Form, pace: Pace | None, habits: Habits, unread: int = 0) -> None:
        self.traits = traits
        self.form = form
        self.pace = pace
        self.habits = habits
        self.unread = unread
        self._finished = 0  # chains of this question that came to their own end
        self._known = 0  # these, and those of which it was guessed where they would have
        self._total = 0.0  # their tokens
        self._log = 0.0  # the sum of their logarithms
        self._share = 0.0  # what this question counts for among all
        self._others = 0.0  # the mean logarithm of lengths before it
        self._apart = 0.0  # what it has added to the variance between questions

    def finished(self, tokens: int) -> None:
        """A chain of thought came to its end after so many tokens.

        However many there are on one question, their mean counts as one observation of how long questions take: the
        first of several to end is the shortest, and alone would tell too little.
        """
        self._finished += 1
        self._saw(math.log(max(1, tokens)))

    def cut(self, tokens: int) -> None:
        """A chain of thought was cut after so many tokens. Were that not counted, chains would be taken to be as short
        as those that a deadline leaves time for.

        Its length is drawn from what is known of lengths, beyond where it was cut (stochastic EM for censored data).
        """
        habits = self.habits
        if self._known:
            usual, variance = self._log / self._known, habits.within
        else:
            usual, variance = habits.log_depth, habits.within + max(0.0, habits.between)
        habits.cuts += 1
        log = _beyond(math.log(max(1, tokens)), usual, math.sqrt(variance), habits.cuts * GOLDEN % 1.0)
        self._saw(min(log, math.log(max(tokens, DEFAULT_DEPTH))))

    def _saw(self, log: float) -> None:
        """The logarithm of a chain's length."""
        habits = self.habits
        if not self._known:
            habits.questions += 1
            self._share = _weight(habits.questions, LEARNING / 2)
            self._others, self._apart = habits.log_depth, habits.between
            before, mean_log = habits.depth, habits.log_depth
        else:
            before, mean_log = self.usual_depth, self._log / self._known
            off = (log - mean_log) ** 2 * self._known / (self._known + 1)
            habits.within += LEARNING / 2 * (off - habits.within)
        self._known += 1
        self._total += math.exp(log)
        self._log += log
        habits.depth += self._share * (self.usual_depth - before)
        habits.log_depth += self._share * (self._log / self._known - mean_log)
        apart = (self._log / self._known - self._others) ** 2 - habits.within / self._known
        habits.between += _weight(habits.questions + GUESSED, LEARNING / 2) * (apart - self._apart)
        self._apart = apart

    def concluded(self, tokens: int, seconds: float) -> None:
        """A conclusion took so many tokens and so long."""
        self.habits.conclusion.saw(tokens)
        self.habits.call_seconds.saw(seconds)
        if seconds < self.habits.first_seconds.mean:  # a server is faster again, which no streams would show
            self.habits.first_seconds.saw(seconds)

    def heard(self, tokens: int, seconds: float, first: bool) -> None:
        """A server has sent so many more tokens of a choice after so long, the ``first`` of it or later ones.

        That is what the time of a conclusion is told by until there was one.
        """
        if first:
            self.habits.first_seconds.saw(seconds)
        else:
            self.habits.token_seconds.saw(seconds / tokens)

    def stepped(self, steps: float, drag: float) -> None:
        """Steps took so much longer than at the measured pace: the machine may be busier than it was then.

        A choice that advanced counts for its share of each step, so that those of one step are one observation.
        """
        habits = self.habits
        habits.steps += steps
        habits.drag += (1 - (1 - LEARNING) ** steps) * (min(max(drag, LEAST_DRAG), MOST_DRAG) - habits.drag)

    def step(self, pace: Pace, width: int) -> float:
        """Seconds of a step at this width, as things are now."""
        return self.habits.drag * pace.step(width)

    @property
    def usual_depth(self) -> float:
        """Tokens of a chain of thought: as on this question so far, else as on others."""
        return self._total / self._known if self._known else self.habits.depth

    def room(self, meter: Meter) -> int:
        """As many as run well together, and still finish a chain of usual length in the time that is left.

        Once something has finished, none is started that has no prospect of getting half as far before the end.
        """
        most = self.traits.room or self.traits.max_width or UNLIMITED
        left, depth = meter.seconds_left, self.usual_depth
        if left == math.inf:
            return most
        if self.pace is None:
            return 0 if self._finished and self.depth(meter, 1) < 0.5 * depth else most
        widths = [w for w in sorted(self.pace.step_seconds, reverse=True) if w < most]
        for width in (most, *widths):
            if self.reserve(width).seconds + depth * self.step(self.pace, width) <= left:
                return width
        hopeless = self.reserve(1).seconds + 0.5 * depth * self.step(self.pace, 1) > left
        return 0 if self._finished and hopeless else 1

    def depth(self, meter: Meter, width: int) -> float:
        """How deep so many trajectories can become before they have to be concluded; may be infinite."""
        left = meter.seconds_left - self.reserve(width).seconds
        if self.pace is not None:
            return left / self.step(self.pace, width)
        first, token = self.habits.first_seconds, self.habits.token_seconds
        return (left - first.high) / max(token.mean, 1e-6) if token.seen else math.inf

    def costs(self, prompt_tokens: int) -> Costs:
        """What is known of time, size and price, for plans."""
        pace, traits, stated = self.pace, self.traits, self.form.tokens > 0
        cue = self._cue * pace.read_seconds if pace else 0.0
        return Costs(
            traits.model,
            traits.version,
            traits.parameters,
            kind=self.habits.kind,
            unit_seconds=pace.step_seconds if pace else {},
            read_seconds=self.unread * pace.read_seconds if pace else 0.0,
            drag=self.habits.shown_drag,
            depth=self.usual_depth,
            spread=math.sqrt(self.habits.within),
            differ=math.sqrt(max(0.0, self.habits.between)),
            freedom=GUESSED - 1 + min(self.habits.questions, REMEMBERED),
            most_depth=DEFAULT_DEPTH,
            answer_units=self.habits.conclusion.mean if stated else 0.0,
            answer_spread=self.habits.conclusion.spread if stated else 0.0,
            answer_read=cue,
            held_units=self._held if stated else 0.0,
            held_read=SLACK * cue,
            answer_tokens=self.form.tokens,
            prompt_tokens=prompt_tokens,
            unit_bytes=traits.bytes_per_token,
            price=traits.price,
            room=traits.room,
            max_width=traits.max_width,
            countable=stated,
            greedy=EngineCapability.TOKENS in traits.capabilities,  # it shares their prompt; of a server it asks twice
        )

    @property
    def _cue(self) -> float:
        """The tokens that lead an unfinished chain to its answer, about."""
        return len(self.form.cue) / 3

    @property
    def _held(self) -> float:
        """The steps that are held back for a conclusion: one more may be under way."""
        return SLACK * self.habits.conclusion.high + 1

    def reserve(self, width: int) -> Reserve:
        """What concluding so many trajectories takes, and reading the prompt where that has not begun."""
        if self.form.tokens == 0:
            return Reserve(0.0, 0)
        habits = self.habits
        if self.pace is None:
            if habits.call_seconds.seen:
                return Reserve(habits.call_seconds.high, self.form.tokens)
            beyond = habits.conclusion.high * habits.token_seconds.mean
            return Reserve(habits.first_seconds.high + beyond, self.form.tokens)
        step = self.step(self.pace, width)
        read = (self.unread + self._cue * width) * self.pace.read_seconds * habits.drag
        return Reserve(SLACK * read + self._held * step, self.form.tokens)


def _beyond(reached: float, mean: float, deviation: float, share: float) -> float:
    """Of what is normal and more than ``reached``: that which this ``share`` of it is below."""
    if deviation <= 0:
        return max(reached, mean)
    above = _NORMAL.cdf((mean - reached) / deviation)  # the chance of getting as far
    rest = max(1e-12, (1.0 - share) * above)
    return max(reached, mean - deviation * _NORMAL.inv_cdf(rest)) if rest < 1 else reached


def _weight(count: int, least: float = LEARNING) -> float:
    """The weight of the observation with this number in a running mean, whose first value counts for one as well."""
    return max(least, 1.0 / (count + 1))
