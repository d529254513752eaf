"""Limits that several workers keep together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.serve.shared import LEASED, Allowances, LeasedBucket, Share


def buckets(directory: Path, workers: int, per_minute: float) -> list[LeasedBucket]:
    share = Share(directory, workers)
    return [LeasedBucket(Allowances(share), "alice tokens", per_minute) for _ in range(workers)]


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 90)), min_size=200, max_size=200))
def test_together_they_spend_a_minutes_worth_and_what_was_under_way(
    tmp_path_factory: pytest.TempPathFactory, visits: Sequence[tuple[int, int]]
) -> None:
    per_minute = 1000.0
    began = time.monotonic()
    all_ = buckets(tmp_path_factory.mktemp("share"), 4, per_minute)
    spent, last = 0.0, 0.0
    for at, tokens in visits:
        if all_[at].wait(1.0) == 0:
            all_[at].take(tokens)
            spent, last = spent + tokens, tokens
    refilled = (time.monotonic() - began) * per_minute / 60
    assert spent <= per_minute + refilled + 3 * 90 + last
    if sum(tokens for _, tokens in visits) > 4 * per_minute:
        assert spent >= (1 - LEASED) * per_minute


def test_one_worker_alone_may_use_all_but_what_the_others_hold(tmp_path: Path) -> None:
    first, *others = buckets(tmp_path, 4, 1000.0)
    for other in others:
        assert other.wait(1.0) == 0
    used = 0
    while (left := first.wait(1.0)) == 0:
        first.take(1.0)
        used += 1
    assert used >= (1 - LEASED) * 1000
    assert 0 < left <= 60


def test_what_one_owes_the_others_wait_for(tmp_path: Path) -> None:
    first, second = buckets(tmp_path, 2, 600.0)
    assert first.wait(1.0) == 0
    first.take(1200.0)  # one request that spent two minutes' worth
    assert second.wait(1.0) > 50


def test_the_file_is_asked_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bucket,) = buckets(tmp_path, 1, 100_000.0)
    asked = 0
    lease = Allowances.lease

    def counted(self: Allowances, *said: float) -> tuple[float, float]:
        nonlocal asked
        asked += 1
        return lease(self, *said)  # type: ignore[arg-type]

    monkeypatch.setattr(Allowances, "lease", counted)
    for _ in range(1000):
        assert bucket.wait(1.0) == 0
        bucket.take(50.0)
    assert asked <= 50_000 / (LEASED * 100_000) + 10
