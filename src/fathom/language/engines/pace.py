"""How fast a model runs on this machine: measured once by a few steps, and kept.

On CPUs the cost of a step does not grow with its width as one would think: two to four sequences together can be
slower than one after another, and sixteen twice as fast. So the cost is measured at each width, along with the number
of threads that serves best, and everything that plans (how many samples advance together, whether a deadline can be
met) reads it from here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import filelock
import psutil

from fathom.language.download import cache_directory
from fathom.language.engines.base import Pace

__all__ = ["Measurement", "Probe", "kept", "machine", "measure", "remembered", "room"]

_WIDTHS = (1, 2, 4, 8, 16)
_READ = 32  # prompt tokens: what of a question is not in the cache
_REPEATS = 3
_TURNS = 5
_SECONDS = 8.0  # after which nothing is repeated any more
_WORTH = 0.95  # more threads must bring the cost below this share: they are taken from somebody else
_GOOD = 0.8
_OWN = 0.7  # of the time of its threads is what a process gets that is not disturbed; the rest they wait for each other
_OTHERS = (
    0.1  # of all cores is what others may use: threads that share a core slow each other, and both run all the time
)
_BUSY_SECONDS = 3600.0


class Probe(Protocol):
    """A model that can be timed."""

    def threads(self, count: int) -> None:
        """Use this many from now on."""

    def read(self, tokens: int) -> float:
        """Seconds to read a prompt of so many tokens."""

    def step(self, width: int) -> float:
        """Seconds of one step in which ``width`` sequences advance by one token."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The pace, and the number of threads it was measured with.

    ``quiet`` tells that the machine had little else to do, in this process or in others; a measurement on a busy one is
    kept for an hour only.
    """

    pace: Pace
    threads: int
    quiet: bool = True

    @property
    def room(self) -> int:
        return room(self.pace)

    def __str__(self) -> str:
        """Threads and throughput, e.g. ``1 thread; 10 tok/s at width 1, 29 at 16``."""
        rates = {width: width / seconds for width, seconds in sorted(self.pace.step_seconds.items())}
        shown = sorted({min(rates), max(rates)})
        told = ", ".join(f"{rates[w]:.0f} {'at' if i else 'tok/s at width'} {w}" for i, w in enumerate(shown))
        return f"{self.threads} thread{'s' if self.threads > 1 else ''}; {told}"

    def as_json(self) -> dict[str, Any]:
        steps = {str(width): seconds for width, seconds in self.pace.step_seconds.items()}
        return {
            "read_seconds": self.pace.read_seconds,
            "step_seconds": steps,
            "threads": self.threads,
            "quiet": self.quiet,
        }

    @classmethod
    def from_json(cls, told: Any) -> Measurement:
        """Raises ValueError, TypeError, KeyError or AttributeError on anything that is not a measurement."""
        steps = {int(width): float(seconds) for width, seconds in told["step_seconds"].items()}
        found = cls(Pace(float(told["read_seconds"]), steps), int(told["threads"]), bool(told["quiet"]))
        times = (found.pace.read_seconds, *steps.values())
        if not steps or min(steps) < 1 or found.threads < 1 or not all(0 < t < math.inf for t in times):
            raise ValueError("no measurement")
        return found


def room(pace: Pace) -> int:
    """The smallest measured width that reaches 80 % of the best throughput (tokens per second) of all of them.

    A search that runs wider than that waits longer for each step and gains little.
    """
    rates = {width: width / seconds for width, seconds in pace.step_seconds.items()}
    return min(width for width, rate in rates.items() if rate >= _GOOD * max(rates.values()))


def measure(probe: Probe, *, max_width: int, threads: int | None = None) -> Measurement:
    """Time a model: medians of a few steps at each width up to ``max_width``, and of a few readings of 32 tokens.

    ``threads`` None tries one thread, half of the cores and all of them, and takes the fewest that do about as well
    as the best: by the geometric mean of a narrow and a wide step.
    """
    end = time.monotonic() + _SECONDS
    widths = [w for w in _WIDTHS if w <= max_width]
    cores = os.cpu_count() or 1
    tried = sorted({1, max(1, cores // 2), cores}) if threads is None else [threads]
    best = _threads(probe, tried, (widths[0], widths[-1 if len(widths) < 4 else 3]))
    probe.threads(best)
    undisturbed = _watched(best, cores)
    shapes: list[Callable[[], float]] = [partial(probe.step, width) for width in widths]
    shapes.append(partial(probe.read, _READ))
    first = [take() for take in shapes]  # which also prepares the shape
    times: list[list[float]] = [[] for _ in shapes]
    for _ in range(_REPEATS):
        for taken, take in zip(times, shapes, strict=True):
            if time.monotonic() < end:
                taken.append(take())
    *steps, reading = [statistics.median(taken or [cold]) for taken, cold in zip(times, first, strict=True)]
    return Measurement(Pace(reading / _READ, dict(zip(widths, steps, strict=True))), best, quiet=undisturbed())


def _watched(threads: int, cores: int) -> Callable[[], bool]:
    """Tells, when called, whether from now until then this process got its threads' time, and others used little."""
    wall, own, all_of_them = time.perf_counter(), time.process_time(), _used()

    def undisturbed() -> bool:
        passed, got, used = time.perf_counter() - wall, time.process_time() - own, _used() - all_of_them
        return got >= _OWN * threads * passed and used - got <= _OTHERS * cores * passed

    return undisturbed


def _used() -> float:
    """Seconds of all cores together that were worked, by whomever, or taken away by the host of a virtual machine."""
    times = psutil.cpu_times()
    twice = ("guest", "guest_nice")  # are within user and nice
    return float(sum(spent for name, spent in times._asdict().items() if name not in ("idle", "iowait", *twice)))


def _threads(probe: Probe, tried: Sequence[int], widths: tuple[int, int]) -> int:
    """The fewest of these threads that do about as well as the best, by the medians of steps that they take in turn.

    One slow moment does not decide; others that use the machine all along do: threads of one step wait for each other.
    """
    if len(tried) == 1:
        return tried[0]
    end = time.monotonic() + _SECONDS / 2
    times: dict[tuple[int, int], list[float]] = {(count, width): [] for count in tried for width in widths}
    for turn in range(_TURNS):
        for count in tried if turn < 3 or time.monotonic() < end else ():
            probe.threads(count)
            for width in widths:
                times[count, width].append(probe.step(width))
    best, least = tried[0], math.inf
    for count in tried:
        cost = math.prod(statistics.median(times[count, width]) for width in widths) ** 0.5
        if cost < _WORTH * least:
            best, least = count, cost
    return best


def kept(key: Mapping[str, Any], measuring: Callable[[], Measurement]) -> Measurement:
    """The measurement that was kept for ``key``, or a new one, kept from now on.

    Two processes that want the same one measure it once. A damaged file is measured anew; where nothing can be
    written, nothing is kept.
    """
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    path = cache_directory() / "pace" / f"{name}.json"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    found = _load(path)
    if found is not None:
        return found
    with _alone(path):
        found = _load(path)
        if found is None:
            found = measuring()
            with contextlib.suppress(OSError):
                _save(path, {"key": dict(key), "measured_at": time.time(), **found.as_json()})
    return found


def remembered(file_name: str, size: int) -> str:
    """What was measured last of a model's file on this machine, in words, and when; empty where nothing was kept."""
    found: list[tuple[float, Measurement]] = []
    for path in (cache_directory() / "pace").glob("*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            told = json.loads(path.read_bytes())
            if told["key"]["machine"] == machine() and told["key"]["model"] == [file_name, size]:
                found.append((float(told["measured_at"]), Measurement.from_json(told)))
    if not found:
        return ""
    when, measurement = max(found, key=lambda each: each[0])
    return f"{measurement}; measured {time.strftime('%Y-%m-%d', time.localtime(when))}"


def _alone(path: Path) -> contextlib.AbstractContextManager[object]:
    lock = filelock.FileLock(path.with_suffix(".lock"))
    try:
        return lock.acquire(timeout=60)  # far longer than any measurement
    except (filelock.Timeout, OSError, NotImplementedError):
        return contextlib.nullcontext()


def _load(path: Path) -> Measurement | None:
    try:
        told = json.loads(path.read_bytes())
        found = Measurement.from_json(told)
        fresh = found.quiet or 0 <= time.time() - float(told["measured_at"]) < _BUSY_SECONDS
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return found if fresh else None


def _save(path: Path, told: Mapping[str, Any]) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
        json.dump(told, file, indent=1)
    os.replace(file.name, path)


def machine() -> dict[str, Any]:
    """What tells this machine from another, as far as speed goes."""
    return {"cpu": _cpu(), "cores": os.cpu_count(), "system": platform.system(), "machine": platform.machine()}


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
