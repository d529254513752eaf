"""What runs teach: robust, kept from process to process, and harmless where it cannot be read."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.language.download import cache_directory
from fathom.planning import learned as module
from fathom.planning.learned import Learned, learned, remember, save


def test_the_ratio_of_actual_to_predicted_is_learned_whatever_single_runs_do() -> None:
    rng = random.Random(random.SystemRandom().random())
    truth, known = rng.uniform(0.5, 3.0), Learned()
    for run in range(60):
        drag = 1000.0 if run % 20 == 7 else truth * rng.uniform(0.9, 1.1)
        known = known.after(drag, 30.0, {}, "short")
    assert known.drag == pytest.approx(truth, rel=0.35)
    assert known.lengths["short"].units == pytest.approx(30.0)
    assert known.runs == 60


def test_a_pace_measured_anew_begins_without_a_drag_and_keeps_the_rest() -> None:
    before = Learned().over({1: 0.1, 8: 0.4})
    for _ in range(20):
        before = before.after(3.0, 40.0, {})
    assert before.over({1: 0.1, 8: 0.4}) is before
    after = before.over({1: 0.05, 8: 0.2})
    assert (after.drag, after.pace_spread, after.lengths) == (1.0, Learned().pace_spread, before.lengths)
    assert after.after(1.5, None, {}).drag == pytest.approx(1.5)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20), st.integers(1, 64))
def test_one_run_moves_it_by_a_bounded_factor(drags: list[float], width: int) -> None:
    known = Learned()
    for drag in drags:
        after = known.after(drag, None, {width: drag})
        assert abs(after.log_drag - known.log_drag) <= math.log(3.0) + 1e-9
        assert all(math.isfinite(seconds) and seconds > 0 for seconds in after.unit_seconds.values())
        known = after


def test_it_is_kept_for_the_next_process_and_a_damaged_file_is_no_harm() -> None:
    known = Learned().after(2.0, 40.0, {4: 0.2}, "short").after(2.0, 200.0, {}, "code")
    remember("m", "engine 1", known)
    save()
    module._known.clear()
    assert learned("m", "engine 1") == known
    assert {kind: length.units for kind, length in known.lengths.items()} == {"short": 40.0, "code": 200.0}
    (file,) = (cache_directory() / "costs").glob("*.json")
    file.write_text("{")
    module._known.clear()
    assert learned("m", "engine 1") == Learned()


def test_what_has_no_engine_of_a_name_is_not_kept() -> None:
    remember("m", "", Learned(runs=5))
    save()
    assert learned("m", "") == Learned()
    assert not (cache_directory() / "costs").exists()
