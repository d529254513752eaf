"""Budgets and the meter that enforces them.

A :class:`Budget` says what may be spent. A :class:`Meter` is the one place where spending is counted and limits are
enforced: work *leases* tokens before it starts, charges what it really used, and gives the rest back, so that any
number of concurrent tasks can never spend more than the limit together. Meters nest: a child has limits of its own and
charges its parents too, so a part of a run can be held to a part of the budget, and many runs to one purse.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Protocol

from fathom.errors import LimitError
from fathom.records import Spent, StopReason
from fathom.units import MOST, parse_duration, parse_size

__all__ = ["Budget", "Lease", "Meter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent. None is unlimited.

    ``seconds`` is a deadline on the wall clock, from the call; durations and sizes may be given as text. ``tokens`` are
    generated tokens of all roles together, ``calls`` model calls, ``cost`` US dollars. ``width`` limits the number of
    trajectories, ``depth`` the units of each (tokens of a language model, for which 0 is the direct answer without
    reasoning; supervision steps of a recursive one), ``memory_bytes`` what trajectories hold at a time.

    >>> Budget(seconds="1m30s", width=16, memory_bytes="2GiB").seconds
    90.0

    Raises LimitError, which names the limit, for limits that make no sense.
    """

    seconds: float | str | None = None
    tokens: int | None = None
    width: int | None = None
    depth: int | None = None
    memory_bytes: int | str | None = None
    cost: float | None = None
    calls: int | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None:
            object.__setattr__(self, "seconds", _positive("seconds", parse_duration(self.seconds)))
        if self.memory_bytes is not None:
            object.__setattr__(self, "memory_bytes", _whole("memory_bytes", parse_size(self.memory_bytes)))
        if self.cost is not None:
            object.__setattr__(self, "cost", _positive("cost", self.cost))
        for name in ("tokens", "width", "calls"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _whole(name, value))
        if self.depth is not None:
            object.__setattr__(self, "depth", _whole("depth", self.depth, least=0))

    def limits(self) -> dict[str, float]:
        """The limits that are set, by name."""
        return {name: limit for name in _NAMES if (limit := getattr(self, name)) is not None}


_NAMES = tuple(f.name for f in fields(Budget))


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MOST:
        raise LimitError(name, f"{name} must be a positive, finite number, not {value!r}")
    return float(value)


def _whole(name: str, value: float, least: int = 1) -> int:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and least <= value < MOST
    if not whole or value != int(value):
        raise LimitError(name, f"{name} must be a whole number of at least {least}, not {value!r}")
    return int(value)


@dataclass(slots=True)
class _Ledger:
    """The running sums behind a meter."""

    tokens: int = 0
    leased: int = 0
    calls: int = 0
    leased_calls: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    estimated_tokens: int = 0
    accepted_draft_tokens: int = 0
    rejected_draft_tokens: int = 0
    width: int = 0
    depth: int = 0
    memory: int = 0
    peak_memory: int = 0
    flops: float = 0.0
    cost: float = 0.0
    leased_cost: float = 0.0
    unpriced: bool = False


class Meter:
    """Enforces a budget and counts everything. Shareable by concurrent tasks and threads.

    The clock starts with the meter. ``clock`` gives seconds and must be monotonic.
    """

    def __init__(
        self,
        budget: Budget | None = None,
        *,
        parent: Meter | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.budget = budget or Budget()
        self.parent = parent
        self._clock: Callable[[], float] = clock or (parent._clock if parent else time.monotonic)
        self.started = self._clock()
        own = self.started + float(self.budget.seconds) if self.budget.seconds is not None else math.inf
        self.deadline: float = min(own, parent.deadline if parent else math.inf)
        self._lock: threading.RLock = parent._lock if parent else threading.RLock()
        self.refused: StopReason | None = None  # the limit that last left a lease without a token
        self._line: tuple[Meter, ...] = (self, *(parent._line if parent else ()))
        self._sum = _Ledger()
        self._by_role: dict[str, int] = {}

    def nested(self, budget: Budget) -> Meter:
        """A meter with limits of its own whose spending counts here too."""
        return Meter(budget, parent=self)

    @property
    def elapsed(self) -> float:
        """Seconds since this meter started."""
        return self._clock() - self.started

    @property
    def seconds_left(self) -> float:
        """Seconds until the nearest deadline, infinite where there is none, never negative."""
        return max(0.0, self.deadline - self._clock())

    @property
    def tokens_left(self) -> float:
        """Tokens neither spent nor leased under the tightest limit of this meter and its parents; may be infinite."""
        return self._left("tokens", "leased")

    @property
    def calls_left(self) -> float:
        """Model calls neither made nor set aside under the tightest limit of this meter and its parents; may be
        infinite."""
        return self._left("calls", "leased_calls")

    def _left(self, name: str, leased: str) -> float:
        """What is neither spent nor set aside of a limit; both names are those of the ledger."""
        with self._lock:
            left = math.inf
            for meter in self._line:
                if (limit := getattr(meter.budget, name)) is not None:
                    left = min(left, limit - getattr(meter._sum, name) - getattr(meter._sum, leased))
            return max(0.0, left)

    @property
    def remaining(self) -> Mapping[str, float]:
        """What is left of each limit that is set here or above, by name."""
        with self._lock:
            left: dict[str, float] = {}
            for meter in self._line:
                spent, budget = meter._sum, meter.budget
                now: dict[str, tuple[float | None, float]] = {
                    "tokens": (budget.tokens, spent.tokens + spent.leased),
                    "calls": (budget.calls, spent.calls + spent.leased_calls),
                    "cost": (budget.cost, spent.cost + spent.leased_cost),
                    "width": (budget.width, spent.width),
                    "memory_bytes": (budget.memory_bytes, spent.memory),  # type: ignore[dict-item]
                }
                for name, (limit, used) in now.items():
                    if limit is not None:
                        left[name] = min(left.get(name, math.inf), max(0.0, limit - used))
            if math.isfinite(self.deadline):
                left["seconds"] = self.seconds_left
            return left

    @property
    def limits(self) -> dict[str, float]:
        """The tightest limits in force, own and inherited, by name."""
        limits: dict[str, float] = {}
        for meter in self._line:
            for name, value in meter.budget.limits().items():
                limits[name] = min(limits.get(name, math.inf), value)
        return limits

    @property
    def spent(self) -> Spent:
        """What was spent so far through this meter."""
        with self._lock:
            total = self._sum
            return Spent(
                seconds=self.elapsed,
                tokens=total.tokens,
                tokens_by_role=dict(self._by_role),
                prompt_tokens=total.prompt_tokens,
                reused_tokens=total.reused_tokens,
                estimated_tokens=total.estimated_tokens,
                accepted_draft_tokens=total.accepted_draft_tokens,
                rejected_draft_tokens=total.rejected_draft_tokens,
                calls=total.calls,
                width=total.width,
                depth=total.depth,
                memory_bytes=total.peak_memory,
                flops=total.flops,
                cost=None if total.unpriced else total.cost,
            )

    @property
    def exhausted(self) -> StopReason | None:
        """The limit that is used up, if any: nothing more may be started."""
        if self._clock() >= self.deadline:
            return StopReason.DEADLINE
        with self._lock:
            for meter in self._line:
                spent, budget = meter._sum, meter.budget
                if budget.tokens is not None and spent.tokens >= budget.tokens:
                    return StopReason.TOKENS
                if budget.calls is not None and spent.calls >= budget.calls:
                    return StopReason.CALLS
                if budget.cost is not None and spent.cost >= budget.cost:
                    return StopReason.COST
        return None

    def lease(self, tokens: int, *, calls: int = 1, prompt_tokens: int = 0, price: Pricing | None = None) -> Lease:
        """Set aside up to ``tokens`` generated tokens, and ``calls`` model calls, for work that is about to start.

        The lease may grant fewer tokens (``lease.tokens``), down to none when a limit leaves no room; then nothing may
        be started. Where there is a cost limit, ``price`` turns what is left of it into tokens; a cost limit without a
        known price is refused with LimitError, since it could not be kept.
        """
        with self._lock:
            granted: float = tokens
            refused: StopReason | None = None
            for meter in self._line:
                spent, budget = meter._sum, meter.budget
                if budget.tokens is not None and (left := budget.tokens - spent.tokens - spent.leased) < granted:
                    granted, refused = left, StopReason.TOKENS
                if budget.calls is not None and spent.calls + spent.leased_calls + calls > budget.calls:
                    granted, refused = 0, StopReason.CALLS
                if budget.cost is not None:
                    affordable = _affordable(budget.cost - spent.cost - spent.leased_cost, prompt_tokens, price)
                    if affordable < granted:
                        granted, refused = affordable, StopReason.COST
            whole = int(granted)
            if whole <= 0:
                self.refused = refused
                return Lease(self, 0, 0, 0.0, price, refused)
            worth = price.cost(prompt_tokens, whole) if price else 0.0
            for meter in self._line:
                spent = meter._sum
                spent.leased += whole
                spent.leased_calls += calls
                spent.leased_cost += worth
            return Lease(self, whole, calls, worth, price, refused)

    def _release(self, tokens: int, calls: int, cost: float) -> None:
        """Take back what a lease has left."""
        with self._lock:
            for meter in self._line:
                spent = meter._sum
                spent.leased -= tokens
                spent.leased_calls -= calls
                spent.leased_cost -= cost

    def charge(
        self,
        role: str,
        *,
        tokens: int = 0,
        prompt_tokens: int = 0,
        reused_tokens: int = 0,
        estimated_tokens: int = 0,
        accepted_draft_tokens: int = 0,
        rejected_draft_tokens: int = 0,
        flops: float = 0.0,
        cost: float | None = 0.0,
        calls: int = 0,
    ) -> None:
        """Count what was really spent, by role (``sample``, ``conclude``, ``judge`` …); ``cost`` None is unknown."""
        drafted = (accepted_draft_tokens, rejected_draft_tokens)
        self._count(role, tokens, prompt_tokens, reused_tokens, estimated_tokens, drafted, flops, cost, calls)

    def _count(
        self,
        role: str,
        tokens: int,
        prompt_tokens: int,
        reused_tokens: int,
        estimated_tokens: int,
        drafted: tuple[int, int],
        flops: float,
        cost: float | None,
        calls: int,
        released: tuple[int, int, float] = (0, 0, 0.0),
    ) -> None:
        """``released``: tokens, calls and dollars of the lease that paid. One pass, as it is done for every token."""
        with self._lock:
            for meter in self._line:
                total = meter._sum
                total.tokens += tokens
                total.prompt_tokens += prompt_tokens
                total.reused_tokens += reused_tokens
                total.estimated_tokens += estimated_tokens
                total.accepted_draft_tokens += drafted[0]
                total.rejected_draft_tokens += drafted[1]
                total.calls += calls
                total.flops += flops
                if cost is None:
                    total.unpriced = True
                else:
                    total.cost += cost
                if tokens:
                    meter._by_role[role] = meter._by_role.get(role, 0) + tokens
                total.leased -= released[0]
                total.leased_calls -= released[1]
                total.leased_cost -= released[2]

    def observe(self, *, width: int = 0, depth: int = 0) -> None:
        """Count ``width`` new trajectories, and note the depth of one."""
        with self._lock:
            for meter in self._line:
                meter._sum.width += width
                meter._sum.depth = max(meter._sum.depth, depth)

    def fits(self, memory_bytes: int) -> bool:
        """Whether so much more memory may be held."""
        with self._lock:
            return all(
                meter.budget.memory_bytes is None or meter._sum.memory + memory_bytes <= int(meter.budget.memory_bytes)
                for meter in self._line
            )

    def hold(self, memory_bytes: int) -> None:
        """Count memory that trajectories hold from now on; a negative number frees it."""
        with self._lock:
            for meter in self._line:
                meter._sum.memory += memory_bytes
                meter._sum.peak_memory = max(meter._sum.peak_memory, meter._sum.memory)


class Pricing(Protocol):
    """What tokens cost; see fathom.language.engines.base.Price."""

    def cost(self, prompt_tokens: int, tokens: int) -> float:
        """In dollars."""


def _affordable(dollars: float, prompt_tokens: int, price: Pricing | None) -> float:
    """How many tokens can be generated for so much money, the reading of the prompt paid."""
    if price is None:
        raise LimitError("cost", "a cost limit needs a price: give the model one, e.g. price=Price(0.15, 0.60)")
    left = dollars - price.cost(prompt_tokens, 0)
    each = price.cost(0, 1_000_000) / 1_000_000
    if left < 0:
        return 0.0
    return left / each if each > 0 else math.inf


class Lease:
    """Tokens and money set aside for one piece of work: charge what it really uses; closing gives the rest back.

    ``tokens`` is what was granted; ``refused`` names the limit that made it less than what was asked, if any did.
    """

    __slots__ = ("_calls_left", "_cost_left", "_price", "_tokens_left", "meter", "refused", "tokens")

    def __init__(
        self, meter: Meter, tokens: int, calls: int, cost: float, price: Pricing | None, refused: StopReason | None
    ) -> None:
        self.meter = meter
        self._price = price
        self._tokens_left = tokens
        self._calls_left = calls
        self._cost_left = cost
        self.tokens = tokens
        self.refused = refused

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def left(self) -> int:
        """Tokens of this lease that are not used yet."""
        return self._tokens_left

    def charge(
        self,
        role: str,
        *,
        tokens: int = 0,
        prompt_tokens: int = 0,
        reused_tokens: int = 0,
        estimated_tokens: int = 0,
        accepted_draft_tokens: int = 0,
        rejected_draft_tokens: int = 0,
        flops: float = 0.0,
        calls: int = 0,
    ) -> None:
        """Count real spending, as Meter.charge does, against what this lease has set aside."""
        cost = self._price.cost(prompt_tokens + reused_tokens, tokens) if self._price else None
        released = min(tokens, self._tokens_left), min(calls, self._calls_left), min(cost or 0.0, self._cost_left)
        self._tokens_left -= released[0]
        self._calls_left -= released[1]
        self._cost_left -= released[2]
        drafted = (accepted_draft_tokens, rejected_draft_tokens)
        self.meter._count(
            role, tokens, prompt_tokens, reused_tokens, estimated_tokens, drafted, flops, cost, calls, released
        )

    def call_again(self) -> bool:
        """Set one more call aside; False where a limit leaves none."""
        with self.meter._lock:
            if self.meter.calls_left < 1:
                return False
            self.meter._release(0, -1, 0.0)
            self._calls_left += 1
            return True

    def close(self) -> None:
        """Give back what was not used. Idempotent."""
        left = self._tokens_left, self._calls_left, self._cost_left
        if any(left):
            self._tokens_left, self._calls_left, self._cost_left = 0, 0, 0.0
            self.meter._release(*left)
