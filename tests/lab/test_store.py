"""The store: what is written stays, exactly once, whatever happens to the process that wrote it."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from dataclasses import asdict, astuple, replace
from pathlib import Path

import pytest

from fathom.errors import FathomError, InputError, UsageError
from fathom.lab.records import GREEDY, Asked, Outcome, Terms, Verdicts, Written
from fathom.lab.store import FILE, Store
from fathom.lab.store_layout import completed
from fathom.records import Spent

TERMS = Terms("m", "abc", "engine 1", "temperature=0.7", "think", "sums", 0)
QUESTIONS = [Asked(0, "q0", "1 + 1?", "2"), Asked(1, "q1", "2 + 2?", "4")]


def drawn(rng: random.Random, question: int, sample: int, depth: int = -1) -> Written:
    answer = str(rng.randrange(5))
    return Written(
        question, depth, sample, f"n:{answer}", True, rng.random() < 0.8, float(rng.randrange(2)), rng.randrange(1, 90),
        rng.randrange(3), 40, rng.random(), -rng.random(), None, None, sample, "stop", answer, f"so {answer}",
    )  # fmt: skip


def test_what_is_written_comes_back_as_it_was(tmp_path: Path) -> None:
    rng = random.Random(random.SystemRandom().randrange(10**6))
    items = [drawn(rng, q, s) for q in range(2) for s in (GREEDY, *range(5))]
    verdict = Verdicts(0, -1, 3, "tests", 0.5, False, "1 of 2 passed", Spent(seconds=0.5, tokens=3, calls=1, cost=None))
    outcome = Outcome(1, "beam", "width=4", "4", 1.0, 0.75, "exhausted", {"tokens": 12})
    with Store(tmp_path, write=True) as store:
        sweep = store.begin("s", TERMS, QUESTIONS, {"parameters": 7}).id
        store.add(sweep, items)
        store.add(sweep, [verdict, outcome])
        store.charge(
            sweep, 0, "samples", Spent(1.5, 100, {"sample": 90, "conclude": 10}, 40, 7, memory_bytes=9, cost=1)
        )
        store.charge(
            sweep, 1, "samples", Spent(0.5, 8, {"sample": 10, "conclude": -2}, calls=6, memory_bytes=5, cost=2)
        )
        store.charge(sweep, 1, "judge", Spent(tokens=3, tokens_by_role={"judge": 3}, calls=1, flops=2.5, cost=0.25))
    with Store(tmp_path) as store:
        info = store.find()
        assert (info.name, info.terms, info.facts) == ("s", TERMS, {"parameters": 7})
        assert store.questions(info.id) == QUESTIONS
        assert list(store.trajectories(info.id)) == items
        assert list(store.trajectories(info.id, question=1)) == items[6:]
        assert store.counts(info.id) == {(0, -1): 6, (1, -1): 6}
        assert store.samples(info.id, 0, -1) == {GREEDY, 0, 1, 2, 3, 4}
        assert list(store.verdicts(info.id)) == [verdict]
        assert list(store.outcomes(info.id)) == [outcome]
        by_role = {"sample": 100, "conclude": 8, "judge": 3}
        spent = Spent(2.0, 111, by_role, 40, 7, calls=7, memory_bytes=9, flops=2.5, cost=3.25)
        assert store.spent(info.id) == spent


def test_a_trajectory_is_kept_once_and_never_changes(tmp_path: Path) -> None:
    first = drawn(random.Random(1), 0, 0)
    with Store(tmp_path, write=True) as store:
        sweep = store.begin("s", TERMS, QUESTIONS).id
        store.add(sweep, [first])
        store.add(sweep, [replace(first, answer="another")])
        assert list(store.trajectories(sweep)) == [first]


def test_two_sweeps_share_a_store_and_none_takes_in_what_does_not_belong_to_it(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        one = store.begin("one", TERMS, QUESTIONS)
        two = store.begin("two", replace(TERMS, model="n", model_hash="other"), QUESTIONS)
        store.add(one.id, [drawn(random.Random(0), 0, 0)])
        assert store.counts(two.id) == {}
        assert store.begin("one", TERMS, [*QUESTIONS, Asked(2, "q2", "3 + 3?", "6")]).id == one.id
        assert len(store.questions(one.id)) == 3
        for name, other in (("seed", 1), ("sampling", "temperature=1"), ("engine", "engine 2"), ("model_hash", "x")):
            with pytest.raises(UsageError, match=f"{name} was .* and is now"):
                store.begin("one", replace(TERMS, **{name: other}), QUESTIONS)
        with pytest.raises(UsageError, match="question 1 of this sweep was '2 \\+ 2"):
            store.begin("one", TERMS, [QUESTIONS[0], replace(QUESTIONS[1], prompt="2 + 3?")])
        with pytest.raises(UsageError, match="There are: one, two"):
            store.find()


def test_a_second_writer_is_told_so_and_readers_are_not_in_the_way(tmp_path: Path) -> None:
    with Store(tmp_path, write=True, patience=0) as store:
        sweep = store.begin("s", TERMS, QUESTIONS).id
        with pytest.raises(FathomError, match="another process is writing"):
            Store(tmp_path, write=True)
        store.add(sweep, [drawn(random.Random(0), 0, 0)])
        with Store(tmp_path) as reader:
            assert reader.counts(sweep) == {(0, -1): 1}
            store.add(sweep, [drawn(random.Random(0), 0, 1)])
            assert reader.counts(sweep) == {(0, -1): 2}
    Store(tmp_path, write=True).close()


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    rng = random.Random(0)
    items = [replace(drawn(rng, 0, s), text="x" * 5000) for s in range(40)]
    with Store(tmp_path, write=True, patience=0) as store:
        sweep = store.begin("s", TERMS, QUESTIONS).id
        store.add(sweep, items[:5])
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count={pages + 2}")  # SQLite's own "database or disk is full"
        with pytest.raises(FathomError, match=r"full.*Nothing that was written before is lost"):
            store.add(sweep, items[5:])
        with Store(tmp_path) as reader:
            assert list(reader.trajectories(sweep)) == items[:5]
        store._db.execute("PRAGMA max_page_count=100000")
        store.flush()
        assert list(store.trajectories(sweep)) == items


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no sweep"):
        Store(tmp_path)
    (tmp_path / FILE).write_bytes(random.randbytes(5000))
    for write in (False, True):
        with pytest.raises(InputError, match="cannot be opened as a store"):
            Store(tmp_path, write=write)
    (tmp_path / FILE).unlink()
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(InputError, match="has layout 99"):
        Store(tmp_path)


def test_text_that_no_encoding_holds_is_kept_as_far_as_it_can_be(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        sweep = store.begin("s", TERMS, QUESTIONS).id
        store.add(sweep, [replace(drawn(random.Random(0), 0, 0), text="half \ud800 a pair", answer="\ud800")])
        (kept,) = store.trajectories(sweep)
        assert (kept.text, kept.answer) == ("half ? a pair", "?")


@pytest.mark.parametrize(
    ("kept", "given", "uri"),
    [
        (replace(TERMS, model="recursive:q"), replace(TERMS, model="recursive:q(halting=false)"), "recursive:q(…)"),
        (
            Terms("ladder:a,b", "", "fathom 1", "", "", "sums", 0),
            Terms("ladder:a,b", "x | y", "a 1 | b 1", "{} | {}", "short x | short x", "sums", 0),
            "ladder:a,b",
        ),
    ],
)
def test_what_the_first_layout_left_out_is_told_by_the_models_name(kept: Terms, given: Terms, uri: str) -> None:
    assert completed(kept, given, {"uri": uri}, {"uri": uri}) == given
    assert completed(kept, given, {"uri": uri}, {"uri": "another"}) == kept
    assert completed(kept, replace(given, seed=1, dataset="others"), {"uri": uri}, {"uri": uri}) == given


FIRST_LAYOUT = """
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
PRAGMA user_version=1;
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store of the first layout with one sweep, of a trajectory, a verdict and a charge."""
    terms = asdict(replace(TERMS, model_hash="", sampling='{"temperature": 0.7}'))
    with sqlite3.connect(tmp_path / FILE) as db:
        db.executescript(FIRST_LAYOUT)
        db.execute(
            "INSERT INTO sweep VALUES (1, 's', ?, ?)", (json.dumps(terms), '{"uri": "hf:m(top_k=0)", "parameters": 0}')
        )
        db.executemany("INSERT INTO question VALUES (1, ?, ?, ?, ?)", [astuple(asked) for asked in QUESTIONS])
        one = asdict(drawn(random.Random(0), 0, 0))
        db.execute(
            f"INSERT INTO trajectory (sweep, {', '.join(one)}) VALUES (1{', ?' * len(one)})", tuple(one.values())
        )
        db.execute("INSERT INTO verdict VALUES (1, 0, -1, 0, 'tests', 1.0, 1, '')")
        spent = json.dumps(asdict(Spent(tokens=5, prompt_tokens=2, reused_tokens=3, calls=1)))
        db.execute("INSERT INTO account VALUES (1, 0, 'samples', 5, 2, 1, 0.5, 9.0, NULL, ?)", (spent,))
    db.close()
    return tmp_path


@pytest.mark.parametrize("write", [False, True])
def test_a_store_of_an_older_layout_is_read_and_goes_on(old: Path, write: bool) -> None:
    before = (old / FILE).read_bytes()
    with Store(old, write=write) as store:
        assert list(store.trajectories(1)) == [drawn(random.Random(0), 0, 0)]
        assert list(store.verdicts(1)) == [Verdicts(0, -1, 0, "tests", 1.0, True)]
        assert store.spent(1) == Spent(0.5, 5, {}, 2, 3, calls=1, flops=9.0)
        assert store.find("s").facts["parameters"] == 0
    if not write:
        assert (old / FILE).read_bytes() == before
        return
    with Store(old, write=True) as store:
        store.charge(1, 1, "judge", Spent(tokens=1, tokens_by_role={"judge": 1}, memory_bytes=3))
        store.add(1, [drawn(random.Random(0), 0, 1)])
        assert store.spent(1) == Spent(0.5, 6, {"judge": 1}, 2, 3, calls=1, memory_bytes=3, flops=9.0)
        assert store.counts(1) == {(0, -1): 2}


def test_what_older_versions_did_not_tell_of_a_model_is_filled_in_once(old: Path) -> None:
    uri = {"uri": "hf:m(top_k=0)", "parameters": 7}
    now = replace(TERMS, model_hash="of the files", sampling='{"temperature": 0.7, "top_k": 0}')
    with Store(old, write=True) as store:
        others = [
            (now, {**uri, "uri": "hf:m"}),
            (replace(now, sampling='{"temperature": 0.6, "top_k": 0}'), uri),
            (replace(now, engine="engine 2"), uri),
        ]
        for terms, facts in others:
            with pytest.raises(UsageError, match="and is now"):
                store.begin("s", terms, QUESTIONS, facts)
        sweep = store.begin("s", now, QUESTIONS, uri)
        assert (sweep.terms, sweep.facts) == (now, uri)
    with Store(old, write=True) as store:
        assert store.begin("s", now, QUESTIONS, uri) == sweep
        with pytest.raises(UsageError, match="model_hash was 'of the files' and is now 'of other files'"):
            store.begin("s", replace(now, model_hash="of other files"), QUESTIONS, uri)


WRITER = """
import random, sys
from fathom.lab.store import Store
from test_store import QUESTIONS, TERMS, drawn
store = Store(sys.argv[1], write=True, patience=0.005)
sweep = store.begin("s", TERMS, QUESTIONS).id
rng = random.Random(0)
for sample in range(10**9):
    store.add(sweep, [drawn(rng, 0, sample)])
    if sample % 50 == 0:
        store.flush()
        print(sample, flush=True)
"""


def test_what_was_committed_survives_kill_9_whole(tmp_path: Path) -> None:
    for at in (1, 6):
        told = 0
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / str(at))],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        ) as writer:  # fmt: skip
            assert writer.stdout is not None
            for _ in range(at):
                told = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
        rng = random.Random(0)
        with Store(tmp_path / str(at), write=True) as store:
            kept = list(store.trajectories(store.find().id))
        assert len(kept) > told
        assert kept == [drawn(rng, 0, sample) for sample in range(len(kept))]
