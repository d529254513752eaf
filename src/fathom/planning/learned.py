"""What live runs teach of a model on this machine, kept from one process to the next.

After each run the logarithm of its drag (actual time over what the measured pace says) moves a running mean, robustly:
a wild run counts for no more than a factor of three. This is the drag that a process begins with; once a session has
seen steps of its own, what it says of the drag goes before (``fathom.costs.Costs.drag``): never both. A pace that was
measured anew begins without one. Where nobody measured an engine's speed (servers), the time of a unit at each width is
learned the same way, and everywhere the usual length of a chain, for each kind of answer. The file is small, lies in
the user's cache directory, one for each (model, engine, machine), and is written in the background, at most twice a
minute and at the end of the process.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import math
import os
import tempfile
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import msgspec

from fathom.language.download import cache_directory
from fathom.language.engines.pace import machine
from fathom.planning.cost import PACE_SPREAD

__all__ = ["Learned", "Length", "learned", "remember", "save"]

LEAST_WEIGHT = 0.1  # of a new observation in a running mean
WILD = math.log(3.0)
_EVERY = 30.0  # seconds between two writes


class Length(msgspec.Struct, frozen=True):
    """How many units a chain takes: a running mean over ``runs``."""

    runs: int = 0
    units: float = 0.0

    def after(self, units: float) -> Length:
        """With one more run, whose chains had so many on average."""
        weight = max(LEAST_WEIGHT, 1.0 / (self.runs + 1))
        return Length(self.runs + 1, self.units + weight * (units - self.units))


class Learned(msgspec.Struct, frozen=True):
    """Running means over ``runs``: the logarithm of the drag and its variance from run to run, seconds of a unit by
    width, and by the kind of answer the lengths of chains. The drag is that of the last ``paced`` of these runs, over
    the pace ``measured``."""

    runs: int = 0
    paced: int = 0
    measured: dict[int, float] = {}
    log_drag: float = 0.0
    variance: float = PACE_SPREAD**2
    unit_seconds: dict[int, float] = {}
    lengths: dict[str, Length] = {}

    @property
    def drag(self) -> float:
        """How much longer things take than the measured pace says."""
        return math.exp(self.log_drag)

    @property
    def pace_spread(self) -> float:
        """The standard deviation of the logarithm of a run's pace over what was expected."""
        return math.sqrt(self.variance)

    def over(self, measured: Mapping[int, float]) -> Learned:
        """What of this holds of an engine whose pace was measured so: all, or, measured anew, all but the drag."""
        if measured == self.measured:
            return self
        return msgspec.structs.replace(self, paced=0, measured=dict(measured), log_drag=0.0, variance=PACE_SPREAD**2)

    def after(
        self, drag: float | None, length: float | None, unit_seconds: Mapping[int, float], kind: str = ""
    ) -> Learned:
        """With one more run: its drag, the mean length of its chains, which were of this kind, and the seconds of a
        unit at the widths that it ran, where it shows them."""
        weight = max(LEAST_WEIGHT, 1.0 / (self.runs + 1))
        log_drag, variance, each = self.log_drag, self.variance, dict(self.unit_seconds)
        if drag is not None:
            off = max(-WILD, min(WILD, math.log(drag) - log_drag))
            log_drag += max(LEAST_WEIGHT, 1.0 / (self.paced + 1)) * off
            variance += LEAST_WEIGHT * (off**2 - variance) if self.paced else 0.0  # the first has nothing to be off
        for width, seconds in unit_seconds.items():
            at = 1 << round(math.log2(width))
            before = each.get(at, seconds)
            each[at] = before * math.exp(weight * max(-WILD, min(WILD, math.log(seconds / before))))
        lengths = self.lengths
        if length is not None:
            lengths = {**lengths, kind: lengths.get(kind, Length()).after(length)}
        paced = self.paced + (drag is not None)
        return Learned(self.runs + 1, paced, self.measured, log_drag, variance, each, lengths)


_lock, _writing = threading.Lock(), threading.Lock()
_known: dict[str, Learned] = {}
_unsaved: dict[str, Learned] = {}
_saved_at = -math.inf


def _file_of(model: str, engine: str) -> str:
    key = msgspec.json.encode([model, engine, _machine()], order="sorted")
    return hashlib.sha256(key).hexdigest()[:24] + ".json"


_machine = lru_cache(maxsize=1)(machine)  # it is looked up in the system's files


def learned(model: str, engine: str) -> Learned:
    """What is known; nothing where there is no file, or none that can be read. Without an engine's name, nothing."""
    if not engine:
        return Learned()
    name = _file_of(model, engine)
    with _lock:
        if name not in _known:
            _known[name] = _read(_directory() / name)
        return _known[name]


def remember(model: str, engine: str, found: Learned) -> None:
    """Keep it, for this process at once and for others soon. Without an engine's name nothing is kept."""
    global _saved_at
    if not engine:
        return
    name = _file_of(model, engine)
    with _lock:
        _known[name] = found
        _unsaved[name] = found
        due = time.monotonic() - _saved_at >= _EVERY
        if due:
            _saved_at = time.monotonic()
    if due:
        threading.Thread(target=save, name="fathom-learned", daemon=True).start()


@atexit.register
def save() -> None:
    """Write what is new. Where nothing can be written, nothing is kept."""
    with _writing:
        with _lock:
            due = dict(_unsaved)
            _unsaved.clear()
        for name, found in due.items():
            with contextlib.suppress(OSError):
                _write(_directory() / name, found)


def _directory() -> Path:
    return cache_directory() / "costs"


def _read(path: Path) -> Learned:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Learned)
    except (OSError, msgspec.MsgspecError):
        return Learned()
    lengths = (length.units for length in found.lengths.values())
    times = (*found.unit_seconds.values(), found.drag, found.variance, *lengths)
    return found if all(0 < t < math.inf for t in times) else Learned()


def _write(path: Path, found: Learned) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, suffix=".part", delete=False) as file:
        file.write(msgspec.json.encode(found))
    os.replace(file.name, path)
