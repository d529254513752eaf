"""Budgets say what they mean, and the meter never lets more be spent, however the work is cut up."""

from __future__ import annotations

import math
import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.budget import Budget, Meter
from fathom.errors import LimitError
from fathom.language.engines.base import Price
from fathom.records import StopReason
from fathom.units import parse_duration, parse_size


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("150ms", 0.15), ("2s", 2), ("1m30s", 90), ("1h", 3600), ("0.5", 0.5), (" 3 s ", 3), (7, 7), ("1h2m3s", 3723)],
)
def test_durations_parse_as_people_write_them(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "2 parsecs", "1m30", "s", "ms2", "--2s"])
def test_other_durations_are_refused_by_name(text: str) -> None:
    with pytest.raises(LimitError, match="duration") as caught:
        parse_duration(text)
    assert caught.value.limit == "seconds"


@given(st.integers(1, 10**6), st.sampled_from(["k", "MB", "GiB", "MiB", ""]))
def test_sizes_are_exact(number: int, unit: str) -> None:
    factor = {"k": 1000, "MB": 10**6, "GiB": 2**30, "MiB": 2**20, "": 1}[unit]
    assert parse_size(f"{number}{unit}") == number * factor


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("seconds", 0),
        ("seconds", -1),
        ("seconds", math.nan),
        ("seconds", math.inf),
        ("seconds", 10**400),
        ("width", 10**400),
        ("cost", 10**400),
        ("tokens", 0),
        ("tokens", 1.5),
        ("width", -3),
        ("width", True),
        ("depth", -1),
        ("cost", 0),
        ("cost", math.nan),
        ("calls", 0),
        ("memory_bytes", "2 bananas"),
        ("memory_bytes", 0),
        ("memory_bytes", math.nan),
    ],
)
def test_limits_that_make_no_sense_are_refused_and_named(limit: str, value: object) -> None:
    with pytest.raises(LimitError) as caught:
        Budget(**{limit: value})  # type: ignore[arg-type]
    assert caught.value.limit == limit


def test_a_depth_of_zero_is_the_direct_answer() -> None:
    assert Budget(depth=0).limits() == {"depth": 0}


@given(
    limit=st.integers(1, 300),
    work=st.lists(st.tuples(st.integers(1, 80), st.floats(0, 1), st.booleans()), max_size=40),
    seed=st.integers(0, 1000),
)
def test_leases_never_exceed_the_limit_whatever_the_order(
    limit: int, work: list[tuple[int, float, bool]], seed: int
) -> None:
    meter = Meter(Budget(tokens=limit))
    rng = random.Random(seed)
    open_leases, expected = [], 0
    for wanted, share, nested in work:
        inner = meter.nested(Budget(tokens=wanted)) if nested else meter
        lease = inner.lease(wanted)
        assert lease.tokens <= wanted
        used = int(lease.tokens * share)
        lease.charge("sample", tokens=used)
        expected += used
        open_leases.append(lease)
        if rng.random() < 0.5 and open_leases:
            open_leases.pop(rng.randrange(len(open_leases))).close()
        assert meter.spent.tokens == expected <= limit
        assert meter.tokens_left >= 0
    for lease in open_leases:
        lease.close()
    assert meter.tokens_left == limit - expected


def test_a_child_charges_its_parents_and_obeys_them() -> None:
    purse = Meter(Budget(tokens=100))
    child = purse.nested(Budget(tokens=70))
    with child.lease(1000) as lease:
        assert lease.tokens == 70
        assert lease.refused is StopReason.TOKENS
        lease.charge("judge", tokens=60)
    assert purse.spent.tokens_by_role == {"judge": 60}
    assert purse.nested(Budget(tokens=70)).lease(1000).tokens == 40


def test_a_correction_downwards_gives_tokens_back() -> None:
    meter = Meter(Budget(tokens=10))
    lease = meter.lease(10)
    lease.charge("sample", tokens=6)
    lease.charge("sample", tokens=-2)
    lease.close()
    assert meter.spent.tokens == 4
    assert meter.tokens_left == 6


def test_the_deadline_is_the_nearest_of_the_line() -> None:
    clock = Clock()
    meter = Meter(Budget(seconds=10), clock=clock)
    clock.now += 4
    assert meter.nested(Budget(seconds=60)).seconds_left == 6
    assert meter.nested(Budget(seconds=1)).seconds_left == 1
    assert meter.exhausted is None
    clock.now += 6
    assert meter.exhausted is StopReason.DEADLINE
    assert meter.seconds_left == 0
    assert meter.remaining["seconds"] == 0


def test_money_becomes_tokens_by_the_price() -> None:
    price = Price(prompt=1.0, completion=10.0)  # dollars per million
    meter = Meter(Budget(cost=0.001))
    lease = meter.lease(10_000, prompt_tokens=500, price=price)
    assert lease.tokens == 50  # (0.001 - 500e-6) / 10e-6
    lease.charge("sample", tokens=50, prompt_tokens=500)
    lease.close()
    assert meter.spent.cost == pytest.approx(0.001)
    assert meter.lease(1, price=price).tokens == 0
    assert meter.refused is StopReason.COST


def test_a_cost_limit_without_a_price_is_refused_before_anything_is_spent() -> None:
    meter = Meter(Budget(cost=1))
    with pytest.raises(LimitError, match="price"):
        meter.lease(10)
    assert meter.spent.tokens == 0


def test_a_price_that_is_unknown_makes_the_cost_unknown() -> None:
    meter = Meter()
    with meter.lease(10) as lease:
        lease.charge("sample", tokens=3)
    assert meter.spent.cost is None


def test_calls_are_leased_like_tokens() -> None:
    meter = Meter(Budget(calls=3))
    first = meter.lease(10, calls=2)
    assert meter.lease(10, calls=2).tokens == 0
    assert meter.refused is StopReason.CALLS
    first.charge("sample", tokens=1, calls=1)
    first.close()
    assert meter.remaining["calls"] == 2
    assert meter.exhausted is None
    meter.charge("sample", calls=2)
    assert meter.exhausted is StopReason.CALLS


def test_memory_held_counts_by_its_peak() -> None:
    meter = Meter(Budget(memory_bytes="1MB"))
    meter.hold(600_000)
    assert meter.fits(400_000)
    assert not meter.fits(400_001)
    meter.hold(-600_000)
    assert meter.fits(1_000_000)
    assert meter.spent.memory_bytes == 600_000


def test_threads_share_a_meter_without_losing_a_token() -> None:
    meter = Meter(Budget(tokens=8000))

    def work() -> None:
        for _ in range(1000):
            with meter.lease(2) as lease:
                lease.charge("sample", tokens=1, calls=1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.spent.tokens == 8000
    assert meter.spent.calls == 8000
    assert meter.exhausted is StopReason.TOKENS
