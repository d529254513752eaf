"""Thompson sampling over many arms, with exactly its law, for the cost of a few draws a choice.

At every choice each arm's posterior is drawn from, and the largest draw wins. Nearly all draws cannot win, and need
not be made. Over a bar t the density of Beta(a, b) lies under c·(1 − x)^(b − 1), with the mass q = c·(1 − t)^b / b
there. So an arm can sleep: its draws stay under the bar until, after a geometric number of choices with the chance q,
one must be looked at. That one is drawn from the envelope and accepted by the ratio of the densities (rejection;
Devroye, Non-Uniform Random Variate Generation, 1986, II.3). The largest of those over the bar wins; where there is
none, which is rare, all arms are drawn once more on condition that they stay under it. An arm of which more is known
sleeps anew: the draws of different choices are independent, so nothing is owed to the past.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from dataclasses import dataclass

__all__ = ["BetaArms"]

BARS = (0.998, 0.995, 0.99, 0.98, 0.97, 0.95, 0.925, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
AWAKE = 8.0
"""Arms to look at in a choice, on average: with so many, hardly ever do all of them stay under the bar."""
NEVER = -1
LEAST_LOG_CHANCE = -30.0


@dataclass(slots=True)
class _Arm:
    """``log_scale`` is -log B(a, b), ``log_asleep`` is log(1 - q), or 0 where the envelope rules out nothing, and
    ``due`` is the choice at which the arm wakes."""

    a: float
    b: float
    log_scale: float
    log_asleep: float = 0.0
    due: int = NEVER

    def log_mass(self, bar: float) -> float:
        """log q, of the envelope over the bar: there x^(a-1) is at most 1, or for a < 1 at most bar^(a-1)."""
        return self.log_scale + min(0.0, self.a - 1) * math.log(bar) + self.b * math.log(1 - bar) - math.log(self.b)


class BetaArms:
    """Arms with Beta posteriors, named by whole numbers."""

    def __init__(self, rng: random.Random) -> None:
        self.random = rng
        self.bar = BARS[0]
        self._arms: dict[int, _Arm] = {}
        self._waking: dict[int, list[int]] = {}  # by the choice at which they may be due
        self._choices = 0
        self._holds_until = 0  # the bar

    def put(self, name: int, a: float, b: float) -> None:
        """A new arm, or what is now known of one: its posterior is Beta(a, b), with a and b positive."""
        arm = self._arms[name] = _Arm(a, b, math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))
        self._measure(name, arm)

    def _measure(self, name: int, arm: _Arm) -> None:
        """Find the arm's chance to be over the bar, and let it sleep."""
        log_q, arm.due = arm.log_mass(self.bar), NEVER
        if log_q >= LEAST_LOG_CHANCE:
            arm.log_asleep = math.log1p(-math.exp(log_q)) if log_q < 0 else 0.0
            self._lay(name, arm)

    def _lay(self, name: int, arm: _Arm) -> None:
        """Let an arm sleep until its next draw that may be over the bar."""
        arm.due = self._choices + 1
        if arm.log_asleep:
            arm.due += int(math.log(1 - self.random.random()) / arm.log_asleep)
        self._waking.setdefault(arm.due, []).append(name)

    def choose(self) -> int:
        """The arm whose draw is the largest. There must be one."""
        if self._choices >= self._holds_until:
            self._set_bar()
        self._choices += 1
        chosen, largest = NEVER, self.bar
        for name in self._waking.pop(self._choices, ()):
            arm = self._arms[name]
            if arm.due == self._choices:  # it was not laid anew since
                if (x := self._drawn(arm)) > largest:
                    chosen, largest = name, x
                self._lay(name, arm)
        return chosen if chosen != NEVER else self._under_the_bar()

    def _set_bar(self) -> None:
        """The highest bar over which enough draws are to be expected; all sleep anew."""
        arms = self._arms.values()

        def awake(bar: float) -> float:
            return sum(math.exp(min(0.0, arm.log_mass(bar))) for arm in arms)

        self.bar = BARS[min(bisect_left(BARS, AWAKE, key=awake), len(BARS) - 1)]
        self._holds_until = self._choices + max(64, len(self._arms))
        self._waking.clear()
        for name, arm in self._arms.items():
            self._measure(name, arm)

    def _drawn(self, arm: _Arm) -> float:
        """The draw of an arm that is awake, or 0 where it is under the bar after all."""
        if not arm.log_asleep:
            return self.random.betavariate(arm.a, arm.b)
        x = 1 - (1 - self.bar) * self.random.random() ** (1 / arm.b)
        most = 1.0 if arm.a >= 1 else self.bar  # where the factor x^(a-1) is largest
        return x if self.random.random() < (x / most) ** (arm.a - 1) else 0.0

    def _under_the_bar(self) -> int:
        """The arm with the largest draw of those that are not over the bar."""
        drawn: dict[float, int] = {}
        for name, arm in self._arms.items():
            x = 1.0
            while x > self.bar:
                x = self.random.betavariate(arm.a, arm.b)
            drawn[x] = name
        return drawn[max(drawn)]
