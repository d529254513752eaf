"""Twenty kills (-9) at random moments of a sweep, gone on with each time: is the result that of an undisturbed one?

    python benchmarks/lab_kills.py

The sweep runs as people run it, as a process of its own on a server on loopback whose answers depend on the seeds. The
reach: equal to the uninterrupted sweep, no trajectory lost or doubled.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fathom.errors import FathomError
from fathom.lab.store import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from upstreams import Upstream


def say(body: dict[str, Any], choice: int) -> list[str]:
    """An answer, after some words, that follows from the question and the seed."""
    seed = body.get("seed", 0) + choice if body.get("temperature") else "greedy"
    rng = random.Random(f"{body['messages'][-1]['content']} {seed}")
    return ["so"] * rng.randrange(1, 30) + [f" \\boxed{{{rng.randrange(4)}}}"]


def kept(directory: Path) -> list[tuple[object, ...]]:
    with Store(directory) as store:
        found = list(store.trajectories(store.find().id))
    return [(t.question, t.depth, t.sample, t.answer, t.text, t.score, t.steps) for t in found]


def count(directory: Path) -> int:
    """How many trajectories are kept; none where the store is only being made."""
    try:
        return len(kept(directory))
    except (FathomError, sqlite3.Error):
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--questions", type=int, default=100)
    options = parser.parse_args()
    rng = random.Random()
    with tempfile.TemporaryDirectory() as folder, Upstream(many=1, tokens=say, delay=0.3) as server:
        questions = Path(folder) / "questions.jsonl"
        rows = [{"question": f"What is {i} modulo 4?", "answer": i % 4} for i in range(options.questions)]
        questions.write_text("\n".join(map(json.dumps, rows)))
        sweep = [sys.executable, "-c", "from fathom.cli import main; main()", "sweep", f"openai:m@{server.url}"]
        sweep += [str(questions), "--samples", "8", "--parallel", "2", "-o"]
        subprocess.run([*sweep, f"{folder}/whole"], check=True, capture_output=True)
        whole, had = kept(Path(folder) / "whole"), [0]
        for _ in range(options.kills):
            running = subprocess.Popen([*sweep, f"{folder}/killed"], stdout=subprocess.DEVNULL)
            while running.poll() is None and count(Path(folder) / "killed") == had[-1]:
                time.sleep(0.05)  # it is only starting
            time.sleep(rng.uniform(0.0, 0.7))
            running.send_signal(signal.SIGKILL)
            running.wait()
            had.append(count(Path(folder) / "killed"))
        subprocess.run([*sweep, f"{folder}/killed"], check=True, capture_output=True)
        print(f"{options.kills} kills; kept after each: {' '.join(map(str, had[1:]))}, of {len(whole)}")
        print("equal to the uninterrupted sweep" if kept(Path(folder) / "killed") == whole else "NOT EQUAL")


if __name__ == "__main__":
    main()
