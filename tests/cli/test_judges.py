"""``fathom judges``, run as a process of its own, with a judge behind a real server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from operator import add, mul, sub
from pathlib import Path

from upstreams import Upstream

FATHOM = [sys.executable, "-c", "from fathom.cli import main; main()"]


def test_judges_are_compared_on_labelled_attempts(tmp_path: Path) -> None:
    def grade(body: dict[str, object], choice: int) -> list[str]:
        return ['{"score": ', "5" if "2 + 2 = 4" in str(body["messages"]) else "1", "}"]

    texts = [("2 + 2 = 4, so 4", True), ("2 + 2 = 5, so 5", False), ("2 + 2 = 6, so 6", False)]
    candidates = [{"text": text, "answer": text[-1], "correct": correct} for text, correct in texts]
    path = tmp_path / "attempts.jsonl"
    path.write_text(json.dumps({"question": "What is 2 + 2?", "candidates": candidates}), "utf-8")
    with Upstream(tokens=grade) as server:
        own = f'llm(model="openai:m@{server.url}")'
        command = [*FATHOM, "judges", str(path), "--judge", own, "--judge", "arithmetic", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=140)
        table = subprocess.run(command[:-1], capture_output=True, text=True, timeout=140)
    assert done.returncode == 0, done.stderr
    asked, computed = json.loads(done.stdout)
    assert (asked["auc_within"], asked["auc_pooled"], asked["calls"], asked["judged"]) == (1.0, 1.0, 3, 3)
    assert asked["tokens"] == 3 * 3
    assert (computed["auc_within"], computed["calls"], computed["tokens"]) == (1.0, 0, 0)
    assert "1.000" in table.stdout


def test_a_file_that_is_no_dataset_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "nothing.jsonl"
    done = subprocess.run([*FATHOM, "judges", str(path), "--judge", "llm"], capture_output=True, text=True, timeout=140)
    assert done.returncode == 2
    assert "nothing.jsonl" in done.stderr


def test_a_dataset_is_attempted_by_the_model_itself_and_labelled_by_its_scorer() -> None:
    def solve(body: dict[str, object], choice: int) -> list[str]:
        """Adds right, and is one off elsewhere and, of four attempts, in one."""
        messages = body["messages"]
        assert isinstance(messages, list)
        numbers = re.findall(r"(\d+) ([-+*]) (\d+)\?", messages[-1]["content"])
        (a, sign, b), drawn = numbers[-1], int(str(body.get("seed", 0))) + choice
        value = {"+": add, "-": sub, "*": mul}[sign](int(a), int(b)) + (sign != "+" or drawn % 4 == 0)
        return [f"{a} {sign} {b} = {value}", f" \\boxed{{{value}}}"]

    with Upstream(tokens=solve) as server:
        command = [*FATHOM, "judges", "arithmetic:12", "--attempts", "4", "--model", f"openai:m@{server.url}", "--json"]
        done = subprocess.run([*command, "--judge", "arithmetic"], capture_output=True, text=True, timeout=140)
    assert done.returncode == 0, done.stderr
    (computed,) = json.loads(done.stdout)
    assert (computed["questions"], computed["judged"], computed["auc_pooled"]) == (12, 48, 1.0)


def test_a_dataset_that_nobody_knows_is_a_usage_error() -> None:
    done = subprocess.run(
        [*FATHOM, "judges", "alchemy", "--judge", "arithmetic"], capture_output=True, text=True, timeout=140
    )
    assert done.returncode == 2
    assert "alchemy" in done.stderr
