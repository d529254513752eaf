"""fathom plan and fathom calibrate, as people and scripts run them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from upstreams import Upstream

FATHOM = [sys.executable, "-c", "from fathom.cli import main; main()"]


def say(body: dict[str, Any], choice: int) -> list[str]:
    """Right three times of four where the question is even."""
    question = body["messages"][-1]["content"]
    chance = 0.75 if len(question) % 2 == 0 else 0.2
    right = random.Random(f"{body.get('seed')} {question}").random() < chance
    return ["so", " it", " is", f" \\boxed{{{len(question) if right else choice}}}"]


def fathom(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "FATHOM_CACHE": str(cache), "COLUMNS": "200"}
    return subprocess.run([*FATHOM, *arguments], capture_output=True, text=True, timeout=280, env=environment)


def test_a_plan_is_shown_with_its_runners_up_and_nothing_is_generated(tmp_path: Path) -> None:
    with Upstream(many=1, tokens=say) as server:
        uri = f"openai:m@{server.url}"
        told = json.loads(fathom(tmp_path, "plan", "-m", uri, "--tokens", "2000", "--width", "6", "--json").stdout)
        shown = fathom(tmp_path, "plan", "What is 6 * 7?", "-m", uri, "--depth", "0")
        assert not server.bodies
    choice = told["choice"]
    assert choice["most"]["tokens"] <= 2000
    assert choice["width"] <= 6
    assert choice["interval"][0] < choice["accuracy"] < choice["interval"][1]
    assert 1 <= len(told["runners_up"]) <= 2
    assert all(other["accuracy"] <= choice["accuracy"] for other in told["runners_up"])
    assert "would run" in shown.stdout
    assert "depth=0" in shown.stdout
    assert "stated priors" in shown.stdout


def test_a_plan_for_puzzles_is_of_attempts_until_one_is_right_and_needs_no_puzzle(tmp_path: Path) -> None:
    told = fathom(tmp_path, "plan", "-m", "recursive:coloring-8", "--within", "60s", "--json")
    assert json.loads(told.stdout)["choice"]["strategy"].startswith("best-of-n(width=128")
    heads = fathom(tmp_path, "plan", "-m", "recursive:queens-8-micro(constraints=false)", "--json")
    assert json.loads(heads.stdout)["choice"]["strategy"].startswith("vote(width=16")


@pytest.mark.slow
def test_a_profile_is_made_kept_and_planned_from(tmp_path: Path) -> None:
    rows = [{"question": "?" * n, "answer": str(n)} for n in range(3, 15)]
    dataset, file = tmp_path / "questions.jsonl", tmp_path / "profile.json"
    dataset.write_text("\n".join(map(json.dumps, rows)))
    with Upstream(many=1, tokens=say) as server:
        uri = f"openai:m@{server.url}"
        made = fathom(tmp_path, "calibrate", uri, str(dataset), "--samples", "8", "-o", str(file))
        asked = len(server.bodies)
        again = fathom(tmp_path, "calibrate", uri, str(dataset), "--samples", "8", "-o", str(file))
        assert len(server.bodies) == asked, "the pool was kept"
        planned = json.loads(fathom(tmp_path, "plan", "-m", uri, "--profile", str(file), "--json").stdout)
        solved = fathom(tmp_path, "solve", "???", "-m", uri, "--profile", str(file))
        refused = fathom(tmp_path, "plan", "-m", f"openai:other@{server.url}", "--profile", str(file))
        few = fathom(tmp_path, "calibrate", uri, str(dataset), "--samples", "2")
    assert made.returncode == again.returncode == 0, made.stderr
    assert "right after 16" in made.stdout
    assert 0.3 < planned["choice"]["accuracy"] < 0.9
    assert not any("priors" in note for note in planned["notes"])
    assert solved.returncode == 0
    assert solved.stdout.strip()
    assert refused.returncode == 2
    assert "made for the model 'm'" in refused.stderr
    assert few.returncode == 2
    assert "8 samples" in few.stderr


@pytest.mark.parametrize(
    "arguments", [("plan", "--within", "0s"), ("plan", "--queue", "soon"), ("plan", "--profile", "no")]
)
def test_bad_options_exit_2_with_one_clear_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with Upstream(many=1, tokens=say) as server:
        done = fathom(tmp_path, *arguments, "-m", f"openai:m@{server.url}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["plan", "calibrate"])
def test_help_has_examples(tmp_path: Path, command: str) -> None:
    done = fathom(tmp_path, command, "--help")
    assert done.returncode == 0
    assert f"fathom {command}" in done.stdout
    assert "Examples" in done.stdout
