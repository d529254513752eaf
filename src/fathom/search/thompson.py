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
from typing import Protocol

__all__ = ["Arms", "Beta", "Family", "Student"]

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


Parameters = tuple[float, ...]
Tail = tuple[float, float]
"""What is over a bar: a bound on the chance of it, and the rate at which the tangent falls off there."""
EVERYTHING: Tail = (1.0, 0.0)


class Family(Protocol):
    """A family of distributions of the mean of some scores, each named by its parameters."""

    def posterior(self, n: int, total: float, squares: float) -> Parameters:
        """After ``n`` scores with this sum, and this sum of squares."""

    def draw(self, parameters: Parameters, rng: random.Random) -> float:
        """A draw."""

    def tail(self, parameters: Parameters, bar: float) -> Tail:
        """What is over the bar; ``EVERYTHING`` where the tangent does not fall off."""

    def beyond(self, parameters: Parameters, bar: float, rate: float, rng: random.Random) -> float:
        """A draw from what the tangent bounds; the bar itself where it is rejected."""


class Beta:
    """Beta(a, b) under Jeffreys' prior, Beta(½, ½), a score counting as that much of a success.

    The coordinate is -log(1 - x), in which the density is x^(a - 1) (1 - x)^b / B(a, b). For a < 1 its logarithm is not
    concave; there x^(a - 1) is bounded by its value at the bar.
    """

    def posterior(self, n: int, total: float, squares: float) -> Parameters:
        return 0.5 + total, 0.5 + max(0.0, n - total)

    def draw(self, parameters: Parameters, rng: random.Random) -> float:
        return rng.betavariate(*parameters)

    def tail(self, parameters: Parameters, bar: float) -> Tail:
        a, b = parameters
        if not 0 < bar < 1 or (rate := b - max(0.0, a - 1) * (1 - bar) / bar) <= 0:
            return EVERYTHING
        log_scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
        return math.exp(log_scale + (a - 1) * math.log(bar) + b * math.log(1 - bar)) / rate, rate

    def beyond(self, parameters: Parameters, bar: float, rate: float, rng: random.Random) -> float:
        a, b = parameters
        drop = -math.log(1 - rng.random())
        x = 1 - (1 - bar) * math.exp(-drop / rate)
        density = (a - 1) * math.log(x / bar) - b * drop / rate
        return x if math.log(1 - rng.random()) - drop < density else bar


class Student:
    """Student's t, by centre, scale and degrees of freedom ν: the mean of scores of unknown mean and variance.

    The prior is normal-inverse-gamma, of mean ½ and variance 0.1, each worth one score (Murphy, Probabilistic Machine
    Learning: Advanced Topics, section 3.4.3). The coordinate is log z, z = (x - centre) / scale, where z > 1.
    """

    def posterior(self, n: int, total: float, squares: float) -> Parameters:
        mean = total / n if n else 0.0
        kappa = nu = 1.0 + n
        spread = max(0.0, squares - n * mean * mean)
        scale = math.sqrt((0.1 + spread + n / kappa * (mean - 0.5) ** 2) / (nu * kappa))
        return (0.5 + total) / kappa, scale, nu

    def draw(self, parameters: Parameters, rng: random.Random) -> float:
        """By the polar method (Bailey, Mathematics of Computation 62, 1994)."""
        centre, scale, nu = parameters
        while True:
            u, v = 2 * rng.random() - 1, 2 * rng.random() - 1
            if 0 < (w := u * u + v * v) < 1:
                return centre + scale * u * math.sqrt(nu * (w ** (-2 / nu) - 1) / w)

    def tail(self, parameters: Parameters, bar: float) -> Tail:
        centre, scale, nu = parameters
        z = (bar - centre) / scale
        if z <= 1:
            return EVERYTHING
        rate = nu * (z * z - 1) / (nu + z * z)
        log_scale = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - math.log(nu * math.pi) / 2
        return math.exp(log_scale + math.log(z) - (nu + 1) / 2 * math.log1p(z * z / nu)) / rate, rate

    def beyond(self, parameters: Parameters, bar: float, rate: float, rng: random.Random) -> float:
        centre, scale, nu = parameters
        drop = -math.log(1 - rng.random())
        z = (bar - centre) / scale
        farther = z * math.exp(drop / rate)
        density = drop / rate - (nu + 1) / 2 * math.log((nu + farther**2) / (nu + z * z))
        return centre + scale * farther if math.log(1 - rng.random()) - drop < density else bar


_Laid = tuple[int, Parameters, float]
"""An arm on the line: its name, its posterior, and the rate of its tail."""


class Arms:
    """Arms named by whole numbers, whose posteriors are of one family."""

    def __init__(self, rng: random.Random, family: Family) -> None:
        self.random = rng
        self.family = family
        self.bar = -math.inf
        self._posteriors: dict[int, Parameters] = {}
        self._likely: dict[int, Parameters] = {}
        self._line: list[_Laid] = []
        self._ends: list[float] = [0.0]  # where the line begins, and where each extent on it ends
        self._place: dict[int, int] = {}  # the last place of each arm on it
        self._won: list[float] = []  # the largest draw of each choice since the bar was set
        self._holds = EPOCH  # for so many choices, the bar

    def put(self, name: int, posterior: Parameters) -> None:
        """A new arm, or what is now known of one."""
        self._posteriors[name] = posterior
        self._lay(name, posterior)

    def _lay(self, name: int, posterior: Parameters) -> None:
        self._place.pop(name, None)
        self._likely.pop(name, None)
        chance, rate = self.family.tail(posterior, self.bar)
        if chance > LIKELY:
            self._likely[name] = posterior
        elif chance > NEVER:
            self._place[name] = len(self._line)
            self._line.append((name, posterior, rate))
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
        rng, family = self.random, self.family
        drawn = {name: family.draw(posterior, rng) for name, posterior in self._likely.items()}
        for name, posterior, rate in self._met():
            drawn[name] = family.beyond(posterior, self.bar, rate, rng)
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
            if place != before and self._place.get(laid[0]) == place:
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
                    x = self.family.draw(posterior, self.random)
                drawn[name] = x
        return drawn
