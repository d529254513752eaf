"""Sweeps as people run them: a process of its own on a real server, interrupted, killed, and gone on with."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from upstreams import Upstream

from fathom.lab.records import GREEDY
from fathom.lab.store import Store

FATHOM = [sys.executable, "-c", "from fathom.cli import main; main()"]
SALT = random.SystemRandom().randrange(10**6)


def say(body: dict[str, Any], choice: int) -> list[str]:
    """An answer that depends on the question and the seed, right about half of the time."""
    question = body["messages"][-1]["content"]
    rng = random.Random(f"{SALT} {question} {body.get('seed', 0) + choice if body.get('temperature') else 'greedy'}")
    return ["so"] * rng.randrange(1, 9) + [f" \\boxed{{{rng.choice([question.split()[2], 'no'])}}}"]


@pytest.fixture
def server() -> Iterator[Upstream]:
    with Upstream(many=1, tokens=say, delay=0.03) as server:
        yield server


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    rows = [{"id": f"q{i}", "question": f"Is it {i + SALT} ?", "answer": i + SALT} for i in range(8)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def command(server: Upstream, questions: Path, out: Path, *more: str) -> list[str]:
    return [*FATHOM, "sweep", f"openai:m@{server.url}", str(questions), "-o", str(out), "--samples", "6", *more]


def kept(out: Path) -> list[tuple[object, ...]]:
    with Store(out) as store:
        found = [t for sweep in store.sweeps() for t in store.trajectories(sweep.id)]
    return [(t.question, t.depth, t.sample, t.answer, t.text, t.score, t.steps, t.seed) for t in found]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=140, stdin=subprocess.DEVNULL)


@pytest.mark.slow
def test_killed_and_gone_on_with_it_ends_as_if_nothing_had_been(
    server: Upstream, questions: Path, tmp_path: Path
) -> None:
    whole = run(*command(server, questions, tmp_path / "whole", "--json"))
    assert whole.returncode == 0, whole.stderr
    assert json.loads(whole.stdout)["done"] == 56
    for number in range(3):
        started = subprocess.Popen(command(server, questions, tmp_path / "killed", "--parallel", "1"))
        database, begun = tmp_path / "killed" / "sweep.sqlite", time.monotonic()
        while not database.exists() and time.monotonic() - begun < 30:
            time.sleep(0.05)
        time.sleep(random.uniform(0.1, 1.0) * (number + 1))
        started.send_signal(signal.SIGKILL)
        started.wait()
    last = run(*command(server, questions, tmp_path / "killed"))
    assert last.returncode == 0, last.stderr
    assert "56 of 56 trajectories" in last.stdout
    assert kept(tmp_path / "killed") == kept(tmp_path / "whole")
    assert {row[2] for row in kept(tmp_path / "whole")} == {GREEDY, *range(6)}
    again = run(*command(server, questions, tmp_path / "killed", "--seed", "1"))
    assert again.returncode == 2
    assert "seed was 0 and is now 1" in again.stderr


@pytest.mark.slow
def test_ctrl_c_keeps_what_came_in_and_live_runs_are_kept_beside(
    server: Upstream, questions: Path, tmp_path: Path
) -> None:
    out, more = tmp_path / "out", ("--live", "first(width=3)", "--parallel", "2")
    server.delay = 1.0
    started = subprocess.Popen(command(server, questions, out, *more), stderr=subprocess.PIPE, text=True)
    begun = time.monotonic()
    while time.monotonic() - begun < 120:
        if (out / "sweep.sqlite").exists() and kept_safely(out):
            break
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    assert "interrupted" in started.communicate(timeout=120)[1]
    assert started.returncode == 130
    before = kept(out)
    assert before
    server.delay = 0.02
    done = run(*command(server, questions, out, *more))
    assert done.returncode == 0, done.stderr
    assert "64 of 64" in done.stdout
    assert set(before) <= set(kept(out))
    with Store(out) as store:
        outcomes = list(store.outcomes(store.find().id))
        spent = store.spent(store.find().id)
    assert [o.question for o in outcomes] == list(range(8))
    assert {o.strategy for o in outcomes} == {"first(width=3)"}
    assert spent.tokens > sum(int(row[6]) for row in kept(out))  # type: ignore[call-overload]


def kept_safely(out: Path) -> bool:
    """Whether something is kept; a store that is only being made has nothing."""
    try:
        return bool(kept(out))
    except Exception:
        return False


def test_bad_rows_are_listed_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"question": "1+1?", "answer": 2}\n{"question": "?"}\nnot json\n')
    done = run(*FATHOM, "sweep", "openai:m@http://127.0.0.1:1/v1", str(path), "-o", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "line 2: has no answer" in done.stderr
    assert "line 3: not JSON" in done.stderr
    assert "--skip-bad" in done.stderr
    assert not (tmp_path / "out").exists()
