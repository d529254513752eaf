"""Thompson sampling over many arms, with exactly its law, for the cost of a few draws a choice.

At every choice each arm's posterior is drawn from, and the largest draw wins. Nearly all draws cannot win, and need not
be made. A bar is set where the draws that won have hardly ever been under it. The arms are laid end to end on a line,
each with the extent -log(1 - q), q being a bound on its chance to be over the bar, and the points of a Poisson process
on the line tell whose draws may be: each with just the chance q, independently. These are drawn, by rejection, and the
largest wins; where none is over the bar, which is rare, all arms are drawn on condition that they stay under it. An arm
of which more is known is laid anew at the end of the line, and what lies there for it before counts no more: the draws
of different choices are independent, so nothing is owed to the past.

For the bound and the rejection (Devroye, Non-Uniform Random Variate Generation, 1986, VII.2) each posterior has a
coordinate in which the logarithm of its density is concave, so that it lies under its tangent at the bar.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from typing import NamedTuple, Protocol

__all__ = ["Arms", "Beta", "Posterior", "Student"]

EPOCH = 16
"""Choices after which the bar is set for the first time, and the least between one time and the next."""
LONGEST = 128
"""Choices after which it is set anew, or as many as there are arms: twice as many each time, up to that."""
CROWDED = 16.0
"""Points on the line to be expected in a choice with which it is set before that."""
LIKELY = 0.5
"""An arm more likely than that to be over the bar is simply drawn."""
NEVER = 1e-12
NOBODY = -1


class Tail(NamedTuple):
    """What is over a bar: a bound on the chance of it, and the rate at which the tangent falls off there."""

    chance: float
    rate: float


EVERYTHING = Tail(1.0, 0.0)


class Posterior(Protocol):
    """What is known of the worth of an arm."""

    def draw(self, rng: random.Random) -> float:
        """A draw."""

    def tail(self, bar: float) -> Tail:
        """What is over the bar; ``EVERYTHING`` where the tangent does not fall off."""

    def beyond(self, bar: float, rate: float, rng: random.Random) -> float:
        """A draw from what the tangent bounds; the bar itself where it is rejected."""


class Beta(NamedTuple):
    """Beta(a, b). The coordinate is -log(1 - x), in which the density is x^(a - 1) (1 - x)^b / B(a, b).

    For a < 1 its logarithm is not concave; there x^(a - 1) is bounded by its value at the bar.
    """

    a: float
    b: float

    def draw(self, rng: random.Random) -> float:
        return rng.betavariate(self.a, self.b)

    def tail(self, bar: float) -> Tail:
        a, b = self
        if not 0 < bar < 1 or (rate := b - max(0.0, a - 1) * (1 - bar) / bar) <= 0:
            return EVERYTHING
        log_scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
        return Tail(math.exp(log_scale + (a - 1) * math.log(bar) + b * math.log(1 - bar)) / rate, rate)

    def beyond(self, bar: float, rate: float, rng: random.Random) -> float:
        drop = -math.log(1 - rng.random())
        x = 1 - (1 - bar) * math.exp(-drop / rate)
        density = (self.a - 1) * math.log(x / bar) - self.b * drop / rate
        return x if math.log(1 - rng.random()) - drop < density else bar


class Student(NamedTuple):
    """Student's t with ``nu`` degrees of freedom. The coordinate is log z, z = (x - centre) / scale, where z > 1."""

    centre: float
    scale: float
    nu: float

    def draw(self, rng: random.Random) -> float:
        """By the polar method (Bailey, Mathematics of Computation 62, 1994)."""
        while True:
            u, v = 2 * rng.random() - 1, 2 * rng.random() - 1
            if 0 < (w := u * u + v * v) < 1:
                return self.centre + self.scale * u * math.sqrt(self.nu * (w ** (-2 / self.nu) - 1) / w)

    def tail(self, bar: float) -> Tail:
        z, nu = (bar - self.centre) / self.scale, self.nu
        if z <= 1:
            return EVERYTHING
        rate = nu * (z * z - 1) / (nu + z * z)
        log_scale = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - math.log(nu * math.pi) / 2
        return Tail(math.exp(log_scale + math.log(z) - (nu + 1) / 2 * math.log1p(z * z / nu)) / rate, rate)

    def beyond(self, bar: float, rate: float, rng: random.Random) -> float:
        drop = -math.log(1 - rng.random())
        z = (bar - self.centre) / self.scale
        farther = z * math.exp(drop / rate)
        density = drop / rate - (self.nu + 1) / 2 * math.log((self.nu + farther**2) / (self.nu + z * z))
        return self.centre + self.scale * farther if math.log(1 - rng.random()) - drop < density else bar


class _Laid(NamedTuple):
    name: int
    posterior: Posterior
    rate: float


class Arms:
    """Arms named by whole numbers."""

    def __init__(self, rng: random.Random) -> None:
        self.random = rng
        self.bar = -math.inf
        self._posteriors: dict[int, Posterior] = {}
        self._likely: dict[int, Posterior] = {}
        self._line: list[_Laid] = []
        self._ends: list[float] = [0.0]  # where the line begins, and where each extent on it ends
        self._place: dict[int, int] = {}  # the last place of each arm on it
        self._won: list[float] = []  # the largest draw of each choice since the bar was set
        self._holds = EPOCH  # for so many choices, the bar

    def put(self, name: int, posterior: Posterior) -> None:
        """A new arm, or what is now known of one."""
        self._posteriors[name] = posterior
        self._lay(name, posterior)

    def _lay(self, name: int, posterior: Posterior) -> None:
        self._place.pop(name, None)
        self._likely.pop(name, None)
        chance, rate = posterior.tail(self.bar)
        if chance > LIKELY:
            self._likely[name] = posterior
        elif chance > NEVER:
            self._place[name] = len(self._line)
            self._line.append(_Laid(name, posterior, rate))
            self._ends.append(self._ends[-1] - math.log1p(-chance))

    def _set_bar(self) -> None:
        """Lay all arms anew. What has won lately was hardly ever less than the least of it."""
        self.bar, self._won = min(self._won), []
        self._holds = min(2 * self._holds, max(LONGEST, len(self._posteriors)))
        self._likely, self._line, self._ends, self._place = {}, [], [0.0], {}
        for name, posterior in self._posteriors.items():
            self._lay(name, posterior)

    def choose(self) -> int:
        """The arm whose draw is the largest. There must be one."""
        if len(self._won) >= self._holds or (self._ends[-1] > CROWDED and len(self._won) >= EPOCH):
            self._set_bar()
        drawn = {name: posterior.draw(self.random) for name, posterior in self._likely.items()}
        for name, posterior, rate in self._met():
            drawn[name] = posterior.beyond(self.bar, rate, self.random)
        winner = max(drawn, key=drawn.__getitem__, default=NOBODY)
        if winner == NOBODY or drawn[winner] <= self.bar:
            drawn |= self._under_the_bar()
            winner = max(drawn, key=drawn.__getitem__)
        self._won.append(drawn[winner])
        return winner

    def _met(self) -> list[_Laid]:
        """Those that points of a Poisson process with rate 1 fall on, each once."""
        met: list[_Laid] = []
        random, before, end = self.random.random, NOBODY, self._ends[-1]
        point = -math.log(1 - random())
        while point < end:
            place = bisect_right(self._ends, point) - 1
            laid = self._line[place]
            if place != before and self._place.get(laid.name) == place:
                met.append(laid)
            before = place
            point -= math.log(1 - random())
        return met

    def _under_the_bar(self) -> dict[int, float]:
        """Draws of all arms that were not simply drawn, none of which is over the bar."""
        drawn: dict[int, float] = {}
        for name, posterior in self._posteriors.items():
            if name not in self._likely:
                x = math.inf
                while x > self.bar:
                    x = posterior.draw(self.random)
                drawn[name] = x
        return drawn
