"""How far to draft: as far as it pays, which is often not at all.

Verifying r tokens in one pass costs about one step where a model waits for memory (a GPU, one text) and several where
it waits for arithmetic (a CPU, many texts). The control measures the cost of a pass against the rows in it, in units of
a plain step, and how likely drafted tokens are accepted, and takes the shape with the most tokens for its cost. What
it may lose by trying is on an account: a small allowance while it warms up, a fiftieth of the time after that, and
what speculation itself has gained. When the account is empty, decoding is plain. A drafter that is a model has to read
what was written without it before it can draft again: that toll is weighed and paid from the same account.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["CHAINS", "TREES", "DraftControl", "Shape", "cpu_clock"]


class Shape(NamedTuple):
    """``length`` tokens along each of ``branches`` ways."""

    length: int
    branches: int = 1

    @property
    def rows(self) -> int:
        """Of a pass that verifies it: its tokens, and the one before them."""
        return 1 + self.length * self.branches


CHAINS = tuple(Shape(length) for length in (1, 2, 3, 5, 7, 11, 15))
TREES = (*CHAINS, Shape(2, 2), Shape(3, 2), Shape(7, 2))


def cpu_clock() -> Callable[[], float]:
    """The clock for what a step costs on a CPU: this thread's own time, which other programs do not disturb, where the
    system tells it finely enough.
    """
    return time.thread_time if time.get_clock_info("thread_time").resolution < 1e-4 else time.perf_counter


_WARM = 64  # steps
_ALLOWANCE = 16.0  # plain steps that warming up may cost
_TAX = 0.02  # of the time, for trying again
_DEBT = 4.0  # plain steps that shapes which proved themselves may lose before they are stopped
_CREDIT = 16.0  # plain steps of past gain that may be lost again
_MARGIN = 1.03  # by which speculation must be expected to be quicker
_FORGET = 128  # steps after which what was learned counts half
_PLAIN = 32  # steps after which a plain one is measured again
_SAMPLES = 9
_PROVEN = 4  # trials
_READING = 0.25  # steps that reading a token is believed to cost


class _Survival:
    """How likely each token of a draft is accepted, given that those before it were; old trials fade."""

    _FADE = 0.95
    _PRIOR = 2.0  # trials that the first guess counts for

    def __init__(self, guess: float) -> None:
        self._guess = guess
        self._tried: list[float] = []
        self._right: list[float] = []

    def note(self, length: int, right: int) -> None:
        """A draft of ``length`` was right about its first ``right`` tokens."""
        reached = min(right + 1, length)
        self._tried += [0.0] * (reached - len(self._tried))
        self._right += [0.0] * (reached - len(self._right))
        for i in range(reached):
            self._tried[i] = self._FADE * self._tried[i] + 1
            self._right[i] = self._FADE * self._right[i] + (i < right)

    def forget(self) -> None:
        self._tried = [0.5 * n for n in self._tried]
        self._right = [0.5 * n for n in self._right]

    @property
    def trials(self) -> float:
        return self._tried[0] if self._tried else 0.0

    def expected(self, length: int, width: int) -> float:
        """Tokens accepted by all of ``width`` texts, each with a draft of ``length``."""
        tried, right = sum(self._tried), sum(self._right)
        usual = (right + self._PRIOR * self._guess) / (tried + self._PRIOR)
        total, alive = 0.0, 1.0
        for i in range(length):
            n, k = (self._tried[i], self._right[i]) if i < len(self._tried) else (0.0, 0.0)
            alive *= ((k + self._PRIOR * usual) / (n + self._PRIOR)) ** width
            total += alive
        return total


class _Costs:
    """Seconds of passes at one width, by the rows for each text, with what drafting them took.

    Before it was measured, drafting a token for each text is taken to cost ``drafting`` plain steps, and reading one
    ``reading``.
    """

    def __init__(self, prior: Callable[[int], float] | None, drafting: float, reading: float) -> None:
        self.prior = prior
        self.drafting, self.reading = drafting, reading
        self._plain: deque[float] = deque(maxlen=_SAMPLES)
        self._known: dict[int, deque[float]] = {}

    @property
    def plain(self) -> float | None:
        """Seconds of a plain step, once three were measured."""
        return statistics.median(self._plain) if len(self._plain) >= 3 else None

    def note(self, rows: int, seconds: float) -> None:
        if rows == 1:
            self._plain.append(seconds)
        elif self.plain is not None:
            self._known.setdefault(rows, deque(maxlen=_SAMPLES)).append(seconds / self.plain)

    def forget(self) -> None:
        for rows, samples in list(self._known.items()):
            samples.popleft()
            if not samples:
                del self._known[rows]

    def ratio(self, rows: int) -> float:
        """The cost in plain steps: measured here, or before; else in proportion between what is known, beyond that
        hopefully no more.
        """
        if rows in self._known:
            return statistics.median(self._known[rows])
        if self.prior is not None:
            return self.prior(rows) + self.drafting * (rows - 1)
        points = sorted({1: 1.0, **{r: statistics.median(samples) for r, samples in self._known.items()}}.items())
        for (low, less), (high, more) in itertools.pairwise(points):
            if low < rows < high:
                return less + (more - less) * (rows - low) / (high - low)
        most, cost = points[-1]
        return cost + self.drafting * (rows - most)

    def known(self, rows: int) -> bool:
        """Whether the cost was measured, here or before."""
        return rows in self._known or self.prior is not None

    def worst(self, rows: int) -> float:
        """What it may cost: the most that was seen, else as much as that many steps."""
        if rows in self._known:
            return max(self._known[rows])
        return (1.25 * self.prior(rows) if self.prior is not None else float(rows)) + self.drafting * (rows - 1)

    def took(self, tokens: int, seconds: float) -> float:
        """Plain steps that reading so many tokens took; what it will take is learned from it."""
        if self.plain is None:
            return 0.0
        self.reading += 0.5 * (seconds / self.plain / tokens - self.reading)
        return seconds / self.plain


class DraftControl:
    """Chooses the shape of drafts, and learns from what comes of them.

    ``shapes`` are those that the engine can verify in one pass. ``cost(n)`` is the cost of n rows in one pass, in any
    unit, where it was measured before (``expect`` tells it later). ``drafting`` is what drafting a token is believed to
    cost, in steps of the target: nothing, or as much as the drafter's model is smaller. ``guess`` is the share of
    drafted tokens that is believed to be accepted until some were; None expects more of a model. ``fixed`` takes that
    shape always: no control, for comparisons.

    Not thread-safe: the thread that decodes owns it.
    """

    def __init__(
        self,
        shapes: Sequence[Shape] = CHAINS,
        *,
        cost: Callable[[int], float] | None = None,
        guess: float | None = None,
        drafting: float = 0.0,
        fixed: Shape | None = None,
    ) -> None:
        self._shapes = (fixed,) if fixed else tuple(shapes)
        self._cost, self._drafting, self._fixed = cost, drafting, fixed
        self._guess = (0.8 if drafting else 0.5) if guess is None else guess
        self._reading = _READING
        self._costs: dict[int, _Costs] = {}
        self._survivals: dict[tuple[int, int], _Survival] = {}
        self._account = _ALLOWANCE
        self._steps = 0
        self._since_plain = 0
        self._since_draft = 0

    def expect(self, cost: Callable[[int], float], reading: float) -> None:
        """The cost of n rows in one pass, and that of a token of a prompt that the target reads, now that they were
        measured.
        """
        self._cost, self._reading = cost, reading / cost(1)
        for width, costs in self._costs.items():
            costs.prior, costs.reading = self._prior(width), self._read(width)

    def _read(self, width: int) -> float:
        """What the drafter's reading of a token is believed to cost, in plain steps of so many texts."""
        share = 1.0 if self._cost is None else self._cost(width) / self._cost(1)
        return self._drafting * self._reading / share

    def _prior(self, width: int) -> Callable[[int], float] | None:
        cost = self._cost
        return None if cost is None else (lambda rows: cost(width * rows) / cost(width))

    @property
    def longest(self) -> int:
        return max(shape.length for shape in self._shapes)

    @property
    def broadest(self) -> int:
        return max(shape.branches for shape in self._shapes)

    def choose(self, evidence: int, most: int, width: int = 1, behind: int = 0) -> Shape | None:
        """What to draft for each of ``width`` texts, at most ``most`` tokens a way; None to decode plainly.

        The drafter has to read ``behind`` tokens before it can.
        """
        if self._fixed:
            return self._fixed._replace(length=min(most, self._fixed.length)) if most > 0 else None
        costs = self._at(width)
        if costs.plain is None or self._since_plain >= _PLAIN:
            return None
        best, worth = None, _MARGIN
        toll = behind * costs.reading
        for shape in self._shapes:
            if shape.length > most or (width > 1 and shape.branches > 1):
                continue
            survival = self._survival(evidence, shape.branches)
            made = 1 + survival.expected(shape.length, width)
            rows = shape.rows
            ratio = costs.ratio(rows)
            if made / ratio > worth and (1 - ratio / made) * most >= toll and self._bears(toll, costs, rows, survival):
                best, worth = shape, made / ratio
        return best

    def _bears(self, toll: float, costs: _Costs, rows: int, survival: _Survival) -> bool:
        """Whether the account does. A shape that proved itself is expected to gain, and only stopped by debt; any other
        might cost its worst.
        """
        if survival.trials >= _PROVEN and costs.known(rows):
            return self._account - toll > -_DEBT
        return self._account - toll >= min(costs.worst(rows) - 1, _ALLOWANCE)

    def read(self, tokens: int, seconds: float, width: int = 1) -> None:
        """The drafter has read so many tokens that it was behind, and took so long."""
        self._account -= self._at(width).took(tokens, seconds)

    def observe(self, drafted: int, made: int, seconds: float, width: int = 1) -> None:
        """A pass with ``drafted`` more rows for each of ``width`` texts took so long and made ``made`` tokens each."""
        costs = self._at(width)
        costs.note(1 + drafted, seconds)
        self._steps += 1
        self._since_plain = self._since_plain + 1 if drafted else 0
        self._since_draft = 0 if drafted else self._since_draft + 1
        if self._since_draft >= _FORGET:
            self._forget()
        if costs.plain is None:
            return
        most = 2 * costs.worst(1 + drafted) if drafted else 1.0  # what is more than that was something else
        took = min(seconds / costs.plain, most)
        self._account += _TAX * took - (took - made if drafted else 0.0)
        self._account = min(self._account, _CREDIT)
        if self._steps == _WARM:
            self._account = min(self._account, 0.0)

    def note(self, evidence: int, branches: int, length: int, right: int) -> None:
        """A draft of ``length`` was right about its first ``right`` tokens, verified or only compared."""
        if length:
            self._survival(evidence, branches).note(length, right)

    def _forget(self) -> None:
        self._since_draft = 0
        for costs in self._costs.values():
            costs.forget()
        for survival in self._survivals.values():
            survival.forget()

    def _at(self, width: int) -> _Costs:
        if width not in self._costs:
            self._costs[width] = _Costs(self._prior(width), width * self._drafting, self._read(width))
        return self._costs[width]

    def _survival(self, evidence: int, branches: int) -> _Survival:
        """One for each power of two of evidence: a long agreement goes on longer."""
        key = (min(evidence.bit_length(), 5), branches)
        if key not in self._survivals:
            self._survivals[key] = _Survival(self._guess)
        return self._survivals[key]
