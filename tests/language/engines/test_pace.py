"""The measured pace: what is taken from it, that it is kept, and that nothing damaged is believed."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.language.download import obtain
from fathom.language.engines import pace
from fathom.language.engines.base import Pace
from fathom.language.engines.llama import LlamaEngine
from fathom.language.engines.pace import Measurement, kept, measure, remembered, room

STEPS = st.dictionaries(st.sampled_from([1, 2, 4, 8, 16]), st.floats(1e-6, 1e3), min_size=1)


class SteadyMachine:
    """A machine on which a step costs a fixed part and a part per sequence, the fixed one shared by its threads."""

    def __init__(self, fixed: float, each: float, useful_threads: int) -> None:
        self.fixed, self.each, self.useful = fixed, each, useful_threads
        self.count = 0

    def threads(self, count: int) -> None:
        self.count = count

    def read(self, tokens: int) -> float:
        return self.each * tokens

    def step(self, width: int) -> float:
        return self.fixed / min(self.count, self.useful) + self.each * width


@given(st.floats(1e-4, 1.0), st.floats(1e-5, 1.0), st.integers(1, 64))
def test_a_steady_machine_is_measured_as_it_is(fixed: float, each: float, max_width: int) -> None:
    found = measure(SteadyMachine(fixed, each, 1), max_width=max_width, threads=1)
    assert found.pace.read_seconds == pytest.approx(each)
    assert max(found.pace.step_seconds) <= max_width
    for width, seconds in found.pace.step_seconds.items():
        assert seconds == pytest.approx(fixed + each * width)


class ColdMachine(SteadyMachine):
    """One on which the first step at each width takes much longer, and so does the first reading."""

    def __init__(self, fixed: float, each: float, useful_threads: int) -> None:
        super().__init__(fixed, each, useful_threads)
        self._warm: set[int] = set()

    def _taking(self, shape: int, seconds: float) -> float:
        cold = shape not in self._warm
        self._warm.add(shape)
        return 9 * seconds if cold else seconds

    def read(self, tokens: int) -> float:
        return self._taking(-tokens, super().read(tokens))

    def step(self, width: int) -> float:
        return self._taking(width, super().step(width))


def test_what_is_done_for_the_first_time_does_not_count() -> None:
    warm, cold = (measure(kind(0.5, 0.01, 1), max_width=16, threads=1).pace for kind in (SteadyMachine, ColdMachine))
    assert cold == warm


def test_threads_that_bring_nothing_are_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert measure(SteadyMachine(1.0, 0.001, 1), max_width=16).threads == 1
    assert measure(SteadyMachine(1.0, 0.001, 4), max_width=16).threads == 4
    assert measure(SteadyMachine(1.0, 0.001, 64), max_width=16).threads == 8


class WorkingMachine(SteadyMachine):
    """One whose steps are work for this process."""

    def step(self, width: int) -> float:
        began = time.perf_counter()
        while time.perf_counter() < began + 0.05:
            pass
        return 0.05


def test_a_machine_that_others_use_is_not_quiet() -> None:
    spin = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    spinning = [subprocess.Popen(spin, stdout=subprocess.PIPE) for _ in range(os.cpu_count() or 1)]
    try:
        for process in spinning:
            assert process.stdout is not None
            process.stdout.readline()
        assert not measure(WorkingMachine(1.0, 1.0, 1), max_width=4, threads=1).quiet
    finally:
        for process in spinning:
            process.kill()
            process.communicate()


@given(STEPS)
def test_room_is_the_smallest_width_that_is_nearly_the_best(steps: dict[int, float]) -> None:
    chosen = room(Pace(1.0, steps))
    rates = {width: width / seconds for width, seconds in steps.items()}
    assert rates[chosen] >= 0.8 * max(rates.values())
    assert all(rates[width] < 0.8 * max(rates.values()) for width in steps if width < chosen)


def test_it_is_measured_once_and_kept_per_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path))
    asked: list[Measurement] = []

    def measuring() -> Measurement:
        asked.append(Measurement(Pace(random.random() + 0.1, {1: random.random() + 0.1, 4: 0.5}), 2))
        return asked[-1]

    first, again, other = kept({"a": 1}, measuring), kept({"a": 1}, measuring), kept({"a": 2}, measuring)
    assert first == again == asked[0]
    assert other == asked[1]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"read_seconds": 1}',
        b'{"read_seconds": -1, "step_seconds": {"1": 1}, "threads": 1, "quiet": true}',
        b'{"read_seconds": NaN, "step_seconds": {"1": 1}, "threads": 1, "quiet": true}',
        b'{"read_seconds": 1, "step_seconds": {}, "threads": 1, "quiet": true}',
        b'{"read_seconds": 1, "step_seconds": {"one": 1}, "threads": 1, "quiet": true}',
        b'{"read_seconds": 1, "step_seconds": [1], "threads": 1, "quiet": true}',
        b'{"read_seconds": 1, "step_seconds": {"1": 1}, "threads": 0, "quiet": true}',
    ],
)
def test_a_damaged_file_is_measured_anew(damage: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path))
    good = Measurement(Pace(0.5, {1: 0.25}), 1)
    kept({}, lambda: good)
    (file,) = (tmp_path / "pace").glob("*.json")
    file.write_bytes(damage)
    better = Measurement(Pace(0.25, {1: 0.125}), 2)
    assert kept({}, lambda: better) == better
    assert Measurement.from_json(json.loads(file.read_bytes())) == better
    assert not list((tmp_path / "pace").glob("*.part"))


def test_what_was_measured_on_a_busy_machine_is_soon_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path))
    busy, better = Measurement(Pace(0.5, {1: 0.25}), 1, quiet=False), Measurement(Pace(0.25, {1: 0.125}), 1)
    assert kept({}, lambda: busy) == busy
    assert kept({}, lambda: better) == busy
    (file,) = (tmp_path / "pace").glob("*.json")
    file.write_text(json.dumps({**json.loads(file.read_bytes()), "measured_at": time.time() - 36000}))
    assert kept({}, lambda: better) == better


def test_what_was_measured_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path))
    name, size = f"model-{random.randrange(10**6)}.gguf", random.randrange(10**9)
    assert remembered(name, size) == ""
    for setting, rate in ((1, 4), (2, 8)):
        key = {"machine": pace.machine(), "model": [name, size], "settings": setting}
        steps = {1: 1 / rate, 4: 1 / rate, 16: 2 / rate}
        kept(key, lambda steps=steps, threads=setting: Measurement(Pace(0.01, steps), threads))
        (tmp_path / "pace" / "other.json").write_bytes(b"[")
    today = time.strftime("%Y-%m-%d")
    assert remembered(name, size) == f"2 threads; 8 tok/s at width 1, 64 at 16; measured {today}"
    assert remembered(name, size + 1) == ""
    assert str(Measurement(Pace(0.01, {1: 0.1}), 1)) == "1 thread; 10 tok/s at width 1"


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path / "file"))
    found = Measurement(Pace(0.5, {1: 0.25}), 1)
    assert kept({}, lambda: found) == found


def _measure_slowly(told: multiprocessing.SimpleQueue[str]) -> None:
    def measuring() -> Measurement:
        told.put("measured")
        time.sleep(0.5)
        return Measurement(Pace(0.5, {1: 0.25}), 1)

    kept({"slow": True}, measuring)


def test_two_processes_measure_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path))
    context = multiprocessing.get_context("spawn")
    told = context.SimpleQueue()
    processes = [context.Process(target=_measure_slowly, args=(told,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert told.get() == "measured"
    assert told.empty()


def test_the_machine_is_known() -> None:
    assert pace.machine() == pace.machine()
    assert json.dumps(pace.machine())


@pytest.mark.slow
async def test_the_embedded_engine_is_measured_and_goes_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = obtain("smollm2-135m")
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path))
    engine = LlamaEngine(path, context=256, max_width=4)
    assert engine.traits.room == 4
    found = await engine.pace()
    assert sorted(found.step_seconds) == [1, 2, 4]
    assert engine.traits.room == room(found)
    await engine.aclose()
    again = LlamaEngine(path, context=256, max_width=4)
    assert await again.pace() == found
    await again.aclose()
