"""Where trajectories are kept: an append-only SQLite file in WAL mode, with one writer at a time.

A *sweep* in a store is one model on one dataset under fixed *terms*; several may share a store, each by its name. A
trajectory is known by (question, depth, sample), is written once, and never changes. Writes gather for half a second at
most and are committed together, with what they cost, and each commit is synced to the disk: a process may be killed at
any moment, and what was committed is whole.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from fathom.errors import FathomError, InputError, UsageError, one_of
from fathom.lab.courses import packed, unpacked
from fathom.lab.records import Asked, Course, Outcome, SweepInfo, Terms, Verdicts, Written
from fathom.lab.store_layout import LAYOUT, bring_up, completed, look_through, spent_of, told_spent
from fathom.records import Spent

__all__ = ["FILE", "Store"]

FILE = "sweep.sqlite"
PATIENCE = 0.5
"""Seconds for which writes are gathered before they are committed."""


class Store:
    """A store, opened for reading by any number of processes or for writing by one.

    ``directory`` is made where it is missing and ``write`` is set. Raises InputError where there is no store or the
    file is not one, FathomError where another process writes to it.
    """

    def __init__(self, directory: Path | str, *, write: bool = False, patience: float = PATIENCE) -> None:
        self.directory = Path(directory)
        self.path = self.directory / FILE
        self.patience = patience
        self._pending: list[tuple[str, tuple[Any, ...]]] = []
        self._since = 0.0
        self._lock: FileLock | None = None
        if write:
            self._claim()
        elif not self.path.exists():
            raise InputError(f"there is no sweep in {self.directory}; make one with: fathom sweep MODEL DATASET -o …")
        try:
            self._db = self._connect(write)
        except sqlite3.Error as error:
            self._release()
            raise InputError(f"{self.path} cannot be opened as a store of sweeps: {error}") from None
        except FathomError:
            self._release()
            raise

    def _claim(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.directory / f"{FILE}.lock")
            self._lock.acquire(timeout=0)
        except Timeout:
            raise FathomError(
                f"another process is writing to {self.directory}: wait until it is done, or give another directory"
            ) from None
        except OSError as error:
            raise InputError(f"cannot write to {self.directory}: {error}") from None

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _connect(self, write: bool) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, timeout=10, check_same_thread=False)
        try:
            layout = db.execute("PRAGMA user_version").fetchone()[0]
            if write:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=FULL")
                if layout < LAYOUT:
                    bring_up(db, layout)
            elif layout == 1:
                look_through(db)
            if layout > LAYOUT or (layout == 0 and not write):
                raise InputError(f"{self.path} has layout {layout}; this version of Fathom reads layouts 1 to {LAYOUT}")
        except BaseException:
            db.close()
            raise
        return db

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Commit what is pending and give the store free. Idempotent."""
        try:
            self.flush()
        finally:
            self._db.close()
            self._release()

    # -- sweeps -----------------------------------------------------------------------------------------------------

    def sweeps(self) -> list[SweepInfo]:
        """The sweeps that the store holds, oldest first."""
        rows = self._db.execute("SELECT id, name, terms, facts FROM sweep ORDER BY id")
        return [SweepInfo(id, name, Terms(**json.loads(terms)), json.loads(facts)) for id, name, terms, facts in rows]

    def find(self, name: str | None = None) -> SweepInfo:
        """The sweep of that name, or the only one. Raises UsageError where that says too little or too much."""
        found = self.sweeps()
        if name is None and len(found) == 1:
            return found[0]
        for sweep in found:
            if sweep.name == name:
                return sweep
        raise UsageError(f"{self.directory}: " + one_of("sweep", name or "", [sweep.name for sweep in found]))

    def begin(
        self, name: str, terms: Terms, questions: Sequence[Asked] = (), facts: Mapping[str, Any] | None = None
    ) -> SweepInfo:
        """Begin the sweep ``name``, or go on with it. Raises UsageError where it was begun under other terms.

        More questions may be asked than before, or fewer, but none that were asked may be other ones. Facts that were
        not known when it was begun are added.
        """
        facts = dict(facts or {})
        kept = next((sweep for sweep in self.sweeps() if sweep.name == name), None)
        if kept is not None:
            terms = self._same(kept, terms, facts)
            facts |= {what: known for what, known in kept.facts.items() if known}
        told = json.dumps(asdict(terms)), json.dumps(facts)
        if kept is None:
            new = "INSERT INTO sweep (name, terms, facts, layout) VALUES (?, ?, ?, ?)"
            self._commit([(new, (name, *told, LAYOUT))])
        elif (terms, facts) != (kept.terms, kept.facts):
            filled = "UPDATE sweep SET terms = ?, facts = ?, layout = ? WHERE id = ?"
            self._commit([(filled, (*told, LAYOUT, kept.id))])
        sweep = self.find(name)
        self._ask(sweep.id, questions)
        return sweep

    def _same(self, kept: SweepInfo, given: Terms, facts: Mapping[str, Any]) -> Terms:
        """The terms of a sweep that is gone on with. Raises UsageError where they are not those that are given."""
        (layout,) = self._db.execute("SELECT layout FROM sweep WHERE id = ?", (kept.id,)).fetchone()
        terms = kept.terms if layout > 1 else completed(kept.terms, given, kept.facts, facts)
        _refuse_others(kept.name, terms, given)
        return terms

    def _ask(self, sweep: int, questions: Sequence[Asked]) -> None:
        known = {asked.number: asked for asked in self.questions(sweep)}
        for asked in questions:
            if known.get(asked.number, asked) != asked:
                raise UsageError(
                    f"question {asked.number} of this sweep was {known[asked.number].prompt!r:.100}, and is now "
                    f"{asked.prompt!r:.100}: give the sweep another name or directory"
                )
        rows = [(sweep, a.number, a.name, a.prompt, a.reference) for a in questions if a.number not in known]
        self._commit([("INSERT INTO question VALUES (?, ?, ?, ?, ?)", row) for row in rows])

    def questions(self, sweep: int) -> list[Asked]:
        """The questions that were asked, by number."""
        rows = self._db.execute(
            "SELECT number, name, prompt, reference FROM question WHERE sweep = ? ORDER BY number", (sweep,)
        )
        return [Asked(*row) for row in rows]

    # -- writing ----------------------------------------------------------------------------------------------------

    def add(self, sweep: int, items: Iterable[Written | Course | Verdicts | Outcome]) -> None:
        """Keep these. What is there already stays as it is; they are durable after ``flush``, or soon by themselves."""
        for item in items:
            if not self._pending:
                self._since = time.monotonic()
            self._pending.append((_INSERT[type(item)], (sweep, *_row(item))))
        self.flush(only_if_due=True)

    def charge(self, sweep: int, question: int, what: str, spent: Spent) -> None:
        """Keep what a run spent, cancelled work included; it is committed with the trajectories that it paid for."""
        if not self._pending:
            self._since = time.monotonic()
        numbers = (getattr(spent, name) for name in _CHARGED)
        self._pending.append((_CHARGE, (sweep, question, what, *numbers, told_spent(spent))))
        self._pending += [(_ROLE, (sweep, what, role, tokens)) for role, tokens in spent.tokens_by_role.items()]

    def flush(self, *, only_if_due: bool = False) -> None:
        """Commit what is pending, all or nothing.

        Raises FathomError where that fails, a full disk say: what is pending stays so, and may be flushed again.
        """
        if self._pending and (not only_if_due or time.monotonic() - self._since >= self.patience):
            self._commit(self._pending)
            self._pending = []

    def _commit(self, statements: Sequence[tuple[str, tuple[Any, ...]]]) -> None:
        if not statements:
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            rows: dict[str, list[tuple[Any, ...]]] = {}
            for sql, row in statements:
                rows.setdefault(sql, []).append(row)
            for sql, of_it in rows.items():
                self._db.executemany(sql, of_it)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise FathomError(
                f"cannot write to {self.path}: {error}. Nothing that was written before is lost; make room and run the "
                f"same command again"
            ) from None

    # -- reading ----------------------------------------------------------------------------------------------------

    def counts(self, sweep: int) -> dict[tuple[int, int], int]:
        """How many trajectories, greedy one included, each (question, depth) has; from the index alone."""
        self.flush()
        rows = self._db.execute(
            "SELECT question, depth, count(*) FROM trajectory WHERE sweep = ? GROUP BY question, depth", (sweep,)
        )
        return {(question, depth): count for question, depth, count in rows}

    def samples(self, sweep: int, question: int, depth: int) -> set[int]:
        """The numbers of the samples that a question has at a depth."""
        self.flush()
        rows = self._db.execute(
            "SELECT sample FROM trajectory WHERE sweep = ? AND question = ? AND depth = ?", (sweep, question, depth)
        )
        return {sample for (sample,) in rows}

    def trajectories(self, sweep: int, *, question: int | None = None) -> Iterator[Written]:
        """What is kept of a sweep, by question, depth and sample."""
        self.flush()
        where, values = ("", ()) if question is None else (" AND question = ?", (question,))
        rows = self._db.execute(
            f"SELECT {', '.join(_WRITTEN)} FROM trajectory WHERE sweep = ?{where} ORDER BY question, depth, sample",
            (sweep, *values),
        )
        for row in rows:
            found = dict(zip(_WRITTEN, row, strict=True))
            for name in ("parsed", "finished", "valid"):
                found[name] = None if found[name] is None else bool(found[name])
            yield Written(**found)

    def columns(self, sweep: int, names: Sequence[str]) -> list[tuple[Any, ...]]:
        """Some fields of all trajectories of a sweep, by question, depth and sample: for reading them as arrays."""
        self.flush()
        rows = self._db.execute(
            f"SELECT {', '.join(n for n in names if n in _WRITTEN)} FROM trajectory WHERE sweep = ? "
            "ORDER BY question, depth, sample",
            (sweep,),
        )
        return rows.fetchall()

    def courses(self, sweep: int, *, question: int | None = None) -> Iterator[Course]:
        """How trajectories of a sweep went, of those of which that is kept, by question, depth and sample."""
        self.flush()
        where, values = ("", ()) if question is None else (" AND question = ?", (question,))
        rows = self._db.execute(
            f"SELECT question, depth, sample, told FROM course WHERE sweep = ?{where} ORDER BY question, depth, sample",
            (sweep, *values),
        )
        for row in rows:
            yield unpacked(*row)

    def verdicts(self, sweep: int) -> Iterator[Verdicts]:
        """The judges' words on a sweep's trajectories."""
        self.flush()
        rows = self._db.execute(
            "SELECT question, depth, sample, judge, score, passed, detail, spent FROM verdict WHERE sweep = ?", (sweep,)
        )
        for question, depth, sample, judge, score, passed, detail, told in rows:
            said = None if passed is None else bool(passed)
            spent = None if told is None else spent_of(told)
            yield Verdicts(question, depth, sample, judge, score, said, detail, spent)

    def outcomes(self, sweep: int) -> Iterator[Outcome]:
        """What strategies that were run live came to."""
        self.flush()
        rows = self._db.execute(
            "SELECT question, strategy, budget, answer, score, confidence, stopped, spent FROM outcome WHERE sweep = ? "
            "ORDER BY strategy, budget, question",
            (sweep,),
        )
        for question, strategy, budget, answer, score, confidence, stopped, spent in rows:
            yield Outcome(question, strategy, budget, answer, score, confidence, stopped, json.loads(spent))

    def spent(self, sweep: int, what: str | None = None) -> Spent:
        """All that the sweep has cost so far, what was cut short or failed included, or only what was spent on one
        thing (``SAMPLES``, say); ``cost`` None where unknown."""
        self.flush()
        for_what, asked = ("", (sweep,)) if what is None else (" AND what = ?", (sweep, what))
        *sums, memory, cost, unpriced = self._db.execute(
            f"SELECT {', '.join(f'total({name})' for name in _ADDED)}, max(memory_bytes), total(cost), "
            f"sum(cost IS NULL) FROM account WHERE sweep = ?{for_what}",
            asked,
        ).fetchone()
        roles = self._db.execute(f"SELECT role, sum(tokens) FROM role WHERE sweep = ?{for_what} GROUP BY role", asked)
        seconds, flops, *counts = sums
        found = dict(zip(_ADDED[2:], map(int, counts), strict=True))
        return Spent(
            seconds=seconds,
            flops=flops,
            **found,
            tokens_by_role=dict(roles.fetchall()),
            memory_bytes=memory or 0,
            cost=None if unpriced else cost,
        )


def _refuse_others(sweep: str, kept: Terms, given: Terms) -> None:
    differing = [
        f"{name} was {was!r:.300} and is now {now!r:.300}"
        for name, was in asdict(kept).items()
        if (now := getattr(given, name)) != was
    ]
    if differing:
        raise UsageError(
            f"the sweep {sweep!r} was begun under other terms, which must not be mixed: {'; '.join(differing)}. "
            f"Give the new one another name (--name) or directory (-o)"
        )


def _row(item: Written | Course | Verdicts | Outcome) -> tuple[Any, ...]:
    """The item's fields as SQLite takes them: text that no encoding can hold, which models do write, is replaced."""
    if isinstance(item, Course):
        return item.question, item.depth, item.sample, packed(item)
    row = (getattr(item, name) for name in _FIELDS[type(item)])
    return tuple(
        value.encode("utf-8", "replace").decode() if isinstance(value, str)
        else json.dumps(dict(value)) if isinstance(value, Mapping)
        else told_spent(value) if isinstance(value, Spent)
        else value
        for value in row
    )  # fmt: skip


_FIELDS: dict[type, tuple[str, ...]] = {
    **{kind: tuple(f.name for f in fields(kind)) for kind in (Written, Verdicts, Outcome)},
    Course: ("question", "depth", "sample", "told"),
}
_WRITTEN = _FIELDS[Written]
_TABLES = {Written: "trajectory", Course: "course", Verdicts: "verdict", Outcome: "outcome"}
_INSERT = {
    kind: f"INSERT OR IGNORE INTO {_TABLES[kind]} (sweep, {', '.join(names)}) "
    f"VALUES ({', '.join('?' * (len(names) + 1))})"
    for kind, names in _FIELDS.items()
}
_ADDED = ("seconds", "flops", "tokens", "prompt_tokens", "reused_tokens", "calls")
_CHARGED = (*_ADDED, "memory_bytes", "cost")
_CHARGE = (
    f"INSERT INTO account (sweep, question, what, {', '.join(_CHARGED)}, spent) "
    f"VALUES ({', '.join('?' * (len(_CHARGED) + 4))})"
)
_ROLE = (
    "INSERT INTO role (sweep, what, role, tokens) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (sweep, what, role) DO UPDATE SET tokens = tokens + excluded.tokens"
)
