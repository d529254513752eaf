"""How a store's tables are laid out, and how one of an older version becomes one of this.

A layout is made of those before it: a new store goes through all steps, a writer takes an old one through those that it
lacks, in one transaction. A reader changes nothing: it looks at an old store through views that show what is missing as
empty. Nothing that was kept is lost either way.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from fathom.lab.records import Terms
from fathom.records import Spent

__all__ = ["LAYOUT", "bring_up", "completed", "look_through", "spent_of", "told_spent"]

_FIRST = """
CREATE TABLE sweep (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, terms TEXT NOT NULL, facts TEXT NOT NULL);
CREATE TABLE question (
    sweep INTEGER NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, prompt TEXT NOT NULL, reference TEXT NOT NULL,
    PRIMARY KEY (sweep, number)) WITHOUT ROWID;
CREATE TABLE trajectory (
    sweep INTEGER NOT NULL, question INTEGER NOT NULL, depth INTEGER NOT NULL, sample INTEGER NOT NULL,
    key TEXT NOT NULL, parsed INTEGER NOT NULL, finished INTEGER NOT NULL, score REAL, steps INTEGER NOT NULL,
    conclusion INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, seconds REAL NOT NULL, logprob REAL, value REAL,
    valid INTEGER, seed INTEGER NOT NULL, reason TEXT NOT NULL, answer TEXT, text TEXT NOT NULL,
    UNIQUE (sweep, question, depth, sample));
CREATE TABLE verdict (
    sweep INTEGER NOT NULL, question INTEGER NOT NULL, depth INTEGER NOT NULL, sample INTEGER NOT NULL,
    judge TEXT NOT NULL, score REAL NOT NULL, passed INTEGER, detail TEXT NOT NULL,
    PRIMARY KEY (sweep, judge, question, depth, sample)) WITHOUT ROWID;
CREATE TABLE outcome (
    sweep INTEGER NOT NULL, question INTEGER NOT NULL, strategy TEXT NOT NULL, budget TEXT NOT NULL,
    answer TEXT NOT NULL, score REAL NOT NULL, confidence REAL NOT NULL, stopped TEXT NOT NULL, spent TEXT NOT NULL,
    PRIMARY KEY (sweep, strategy, budget, question)) WITHOUT ROWID;
CREATE TABLE account (
    sweep INTEGER NOT NULL, question INTEGER NOT NULL, what TEXT NOT NULL, tokens INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL, calls INTEGER NOT NULL, seconds REAL NOT NULL, flops REAL NOT NULL, cost REAL,
    spent TEXT NOT NULL);
"""
_ROLE = "TABLE role (sweep INTEGER, what TEXT, role TEXT, tokens INTEGER NOT NULL, PRIMARY KEY (sweep, what, role))"
_COURSE = """TABLE course (
    sweep INTEGER NOT NULL, question INTEGER NOT NULL, depth INTEGER NOT NULL, sample INTEGER NOT NULL,
    told BLOB NOT NULL, UNIQUE (sweep, question, depth, sample))"""
_SECOND = f"""
ALTER TABLE sweep ADD COLUMN layout INTEGER NOT NULL DEFAULT 1;
ALTER TABLE verdict ADD COLUMN spent TEXT;
ALTER TABLE account ADD COLUMN reused_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN memory_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE account SET reused_tokens = told(spent, 'reused_tokens');
CREATE {_ROLE};
CREATE {_COURSE};
"""
_STEPS = (_FIRST, _SECOND)
LAYOUT = len(_STEPS)
_FIRST_AS_NOW = f"""
CREATE TEMP VIEW verdict AS SELECT *, NULL AS spent FROM main.verdict;
CREATE TEMP VIEW account AS
    SELECT *, told(spent, 'reused_tokens') AS reused_tokens, 0 AS memory_bytes FROM main.account;
CREATE TEMP {_ROLE};
CREATE TEMP {_COURSE};
"""


def bring_up(db: sqlite3.Connection, layout: int) -> None:
    """Take a store of an older layout, 0 for an empty file, to this one: all of it, or nothing."""
    db.create_function("told", 2, _told)
    db.executescript(f"BEGIN; {''.join(_STEPS[layout:])} PRAGMA user_version={LAYOUT}; COMMIT;")


def look_through(db: sqlite3.Connection) -> None:
    """Have a store of the first layout look like one of this to those who read over this connection."""
    db.create_function("told", 2, _told)
    db.executescript(_FIRST_AS_NOW)


def _told(spent: str, name: str) -> int:
    found = json.loads(spent).get(name, 0)
    return int(found)


def told_spent(spent: Spent) -> str:
    """What was spent as it is kept: what is not nothing."""
    return json.dumps({name: value for name, value in asdict(spent).items() if value or name == "cost"})


def spent_of(told: str) -> Spent:
    """What was spent, from what is kept of it."""
    return Spent(**json.loads(told))


def completed(kept: Terms, given: Terms, facts: Mapping[str, Any], now: Mapping[str, Any]) -> Terms:
    """The terms of a sweep that was begun under the first layout, with what that left out as it is ``given`` now.

    It had no hashes of directories and of ladders, nothing of a ladder's models and of how a recursive one was opened,
    and no values of the sampling that were 0 or none. Where the model is opened as it was, options included, these are
    taken to be what they are now; what had been told has to be the same.
    """
    if facts.get("uri") != now.get("uri"):
        return kept
    filled = {name: getattr(given, name) for name in ("model_hash", "prompts") if not getattr(kept, name)}
    if not kept.sampling or _is_part(kept.sampling, given.sampling):
        filled["sampling"] = given.sampling
    if given.model.startswith("ladder:"):
        filled["engine"] = given.engine
    if given.model.startswith(f"{kept.model}("):
        filled["model"] = given.model
    return replace(kept, **filled)


def _is_part(kept: str, given: str) -> bool:
    try:
        return bool(json.loads(kept).items() <= json.loads(given).items())
    except (ValueError, TypeError, AttributeError):
        return False
