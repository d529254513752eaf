from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.recursive.pace import Pace


def test_a_quiet_machine_is_a_line_and_the_widest_step_fits() -> None:
    pace = Pace(alone=0.003, together=0.018, rows=16)
    assert [round(1e3 * pace.step(rows), 6) for rows in (1, 2, 16, 31)] == [3, 4, 18, 33]
    assert pace.widest(0.02, 128) == 16
    assert pace.widest(0.001, 128) == 1
    assert pace.widest(10.0, 128) == 128


def test_one_disturbed_step_teaches_nothing_and_lasting_delay_does() -> None:
    pace = Pace(alone=0.003, together=0.018, rows=16)
    pace.saw(4, 0.5)
    assert pace.step(4) == pytest.approx(pace.quiet(4))
    for _ in range(12):
        pace.saw(4, 0.030)
    assert pace.step(4) == pytest.approx(0.030)
    assert pace.step(64) == pytest.approx(pace.quiet(64) + 0.030 - pace.quiet(4)), "as late as others were"
    for _ in range(12):
        pace.saw(4, 0.006)
    assert pace.step(4) == pytest.approx(0.006)


@given(times=st.lists(st.tuples(st.integers(1, 128), st.floats(1e-5, 5.0)), max_size=80), rows=st.integers(1, 128))
def test_estimates_stay_positive_and_a_late_step_takes_longer(times: list[tuple[int, float]], rows: int) -> None:
    pace = Pace(alone=0.003, together=0.018, rows=16)
    for size, seconds in times:
        pace.saw(size, seconds)
    assert 0 < pace.step(rows) < pace.late(rows) <= 3 * pace.step(rows) + 1e-12
    assert 1 <= pace.widest(0.02, 128) <= 128
