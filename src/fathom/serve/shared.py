"""What several workers share of their clients' limits: allowances, leased from one SQLite file.

A worker does not ask the file for every token. It leases a share of what a client may still use, works from that, and
comes again when it is used up. So all workers together keep a limit to within 5 %, leases that lie unused, and what is
under way at the moment it is reached, as a single one does.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Allowances", "LeasedBucket", "Share"]

LEASED = 0.05  # of a minute's allowance at most lies with the workers, all together
FILE = "limits.sqlite"
PATIENCE = 5.0  # seconds to wait for another worker's write


@dataclass(frozen=True)
class Share:
    """What makes a process one of several workers: where they meet, and how many they are."""

    directory: Path
    workers: int


class Allowances:
    """The file. Times in it are seconds since 1970, for workers come and go."""

    def __init__(self, share: Share) -> None:
        self.workers = share.workers
        self._db = sqlite3.connect(share.directory / FILE, timeout=PATIENCE, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")  # it lives as long as the gateway, and no longer
        self._db.execute("CREATE TABLE IF NOT EXISTS allowance (name TEXT PRIMARY KEY, level REAL, at REAL)")

    def lease(self, name: str, per_minute: float, used: float, wanted: float) -> tuple[float, float]:
        """Take ``used`` away from what there is, and of what is left lease so much as is wanted.

        Returns what was leased, and the level afterwards, which may be below nothing.
        """
        now = time.time()
        self._db.execute("BEGIN IMMEDIATE")
        try:
            found = self._db.execute("SELECT level, at FROM allowance WHERE name = ?", (name,)).fetchone()
            level, at = found or (per_minute, now)
            level = min(per_minute, level + max(0.0, now - at) * per_minute / 60) - used
            granted = max(0.0, min(wanted, level))
            level -= granted
            self._db.execute("REPLACE INTO allowance VALUES (?, ?, ?)", (name, level, now))
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return granted, level

    def close(self) -> None:
        self._db.close()


class LeasedBucket:
    """As `limits.Bucket`, for one of several workers."""

    def __init__(self, allowances: Allowances, name: str, per_minute: float) -> None:
        self.per_minute = per_minute
        self._allowances = allowances
        self._name = name
        self._portion = max(1.0, LEASED * per_minute / allowances.workers)
        self._here = 0.0  # what is leased and not used; below nothing, what is owed

    def take(self, amount: float) -> None:
        """Whatever it holds; what is owed the others shall know at once."""
        self._here -= amount
        if self._here < 0:
            self._renew()

    def wait(self, amount: float) -> float:
        """Seconds until it holds so much."""
        if self._here >= amount:
            return 0.0
        level = self._renew(amount)
        return 0.0 if self._here >= amount else max(0.0, (amount - self._here - level) * 60 / self.per_minute)

    def _renew(self, amount: float = 0.0) -> float:
        owed = max(0.0, -self._here)
        held = max(0.0, self._here)
        wanted = max(amount, self._portion) - held
        granted, level = self._allowances.lease(self._name, self.per_minute, owed, wanted)
        self._here = held + granted
        return level
