"""How fast the store takes trajectories in, and how fast a store of a million opens.

    python benchmarks/lab_store.py

The reach is 5,000 a second, each durable within about a second, and 1 s. A trajectory has 600 characters of text and
120 log-probabilities. The rival, which keeps these as the digits that they have, is a file of JSON lines that is synced
as often, read as a whole when it is opened to know what is done.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from fathom.lab.records import Asked, Course, Terms, Written
from fathom.lab.store import FILE, PATIENCE, Store

TEXT = "Let us think step by step about what is asked here. " * 12
WIDTH = 64
_DRAW = random.Random(0)
LOGPROBS = tuple(-round(_DRAW.expovariate(4), 4) for _ in range(217))


def trajectory(number: int) -> Written:
    question, sample = divmod(number, WIDTH)
    return Written(
        question, -1, sample, "n:42", True, True, 1.0, 120, 0, 80, 1.5, -0.2, seed=number, answer="42", text=TEXT
    )


def course(number: int) -> Course:
    question, sample = divmod(number, WIDTH)
    return Course(question, -1, sample, LOGPROBS[number % 97 : number % 97 + 120])


def store_takes_in(directory: Path, count: int) -> float:
    asked = [Asked(q, str(q), f"question {q}?", "42") for q in range(count // WIDTH + 1)]
    with Store(directory, write=True) as store:
        sweep = store.begin("s", Terms("m", "", "e", "", "", "d", 0), asked).id
        began = time.perf_counter()
        for number in range(count):
            store.add(sweep, [trajectory(number), course(number)])
        store.flush()
        return time.perf_counter() - began


def lines_take_in(path: Path, count: int) -> float:
    began = synced = time.perf_counter()
    with path.open("w") as file:
        for number in range(count):
            print(json.dumps(asdict(trajectory(number)) | {"logprobs": course(number).logprobs}), file=file)
            if time.perf_counter() - synced > PATIENCE:
                file.flush()
                os.fsync(file.fileno())
                synced = time.perf_counter()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="runs" if Path("runs").is_dir() else None) as folder:
        took = store_takes_in(Path(folder), options.count)
        size = (Path(folder) / FILE).stat().st_size / 1e6
        print(f"store: {options.count / took:,.0f} trajectories/s written, {size:.0f} MB; the reach is 5,000/s")
        began = time.perf_counter()
        with Store(folder, write=True) as store:
            done = store.counts(store.find().id)
        took = time.perf_counter() - began
        print(f"store: opened, and what is done of {sum(done.values()):,} known, in {took:.2f} s; the reach is 1 s")
        lines = Path(folder) / "lines.jsonl"
        few = options.count // 10
        took = lines_take_in(lines, few)
        print(f"lines: {few / took:,.0f} trajectories/s written")
        began = time.perf_counter()
        with lines.open() as file:
            found = {(row["question"], row["sample"]) for row in map(json.loads, file)}
        took = 10 * (time.perf_counter() - began)
        print(f"lines: what is done known in {took:.1f} s for as many, ten times those {len(found):,}")


if __name__ == "__main__":
    main()
