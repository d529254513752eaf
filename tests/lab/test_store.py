"""The store: what is written stays, exactly once, whatever happens to the process that wrote it."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fathom.errors import FathomError, InputError, UsageError
from fathom.lab.records import GREEDY, Asked, Outcome, Terms, Verdicts, Written
from fathom.lab.store import FILE, Store
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
    verdict = Verdicts(0, -1, 3, "tests", 0.5, False, "1 of 2 passed")
    outcome = Outcome(1, "beam", "width=4", "4", 1.0, 0.75, "exhausted", {"tokens": 12})
    with Store(tmp_path, write=True) as store:
        sweep = store.begin("s", TERMS, QUESTIONS, {"parameters": 7}).id
        store.add(sweep, items)
        store.add(sweep, [verdict, outcome])
        store.charge(sweep, 0, "samples", Spent(seconds=1.5, tokens=100, prompt_tokens=40, calls=6, cost=0.25))
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
        spent = store.spent(info.id)
        assert (spent.tokens, spent.calls, spent.cost) == (100, 6, 0.25)


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
