"""The command, run as people and scripts run it: a process of its own, against a real server on loopback."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from upstreams import Upstream

FATHOM = [sys.executable, "-c", "from fathom.cli import main; main()"]


def say(body: dict[str, Any], choice: int) -> list[str]:
    """Three votes of four for 42."""
    return ["I think that", " the answer", " is", f" \\boxed{{{41 if body.get('seed', 0) % 4 == 3 else 42}}}", "."]


@pytest.fixture
def server() -> Iterator[Upstream]:
    with Upstream(many=1, tokens=say) as server:
        yield server


@pytest.fixture
def slow_server() -> Iterator[Upstream]:
    with Upstream(many=1, tokens=say, delay=0.1) as server:
        yield server


def fathom(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FATHOM, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=200,
        stdin=None if stdin else subprocess.DEVNULL,
    )


def solve(server: Upstream, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return fathom("solve", "--model", f"openai:m@{server.url}", *arguments, stdin=stdin)


def test_piped_output_is_the_answer_alone_and_the_receipt_goes_to_standard_error(server: Upstream) -> None:
    done = solve(server, "What is 6 times 7?", "--width", "4", "--strategy", "vote(stop=never)")
    assert (done.returncode, done.stdout) == (0, "42\n")
    assert "3 of 4 votes" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_json_prints_the_whole_receipt(server: Upstream) -> None:
    done = solve(
        server, "What is 6 times 7?", "--width", "8", "--strategy", "vote(stop=never)", "--tokens", "5000", "--json"
    )
    receipt = json.loads(done.stdout)
    assert receipt["answer"] == "42"
    assert 0.5 < receipt["confidence"] < 1
    assert receipt["stopped"] == "exhausted"
    assert receipt["strategy"] == "vote(stop=never)"
    assert receipt["model"] == "m"
    assert receipt["limits"] == {"width": 8, "tokens": 5000}
    assert receipt["seed"] == 0
    assert [(c["answer"], c["votes"], c["finished"]) for c in receipt["candidates"]] == [
        ("42", 6, True),
        ("41", 2, True),
    ]
    spent = receipt["spent"]
    assert spent["tokens"] == sum(spent["tokens_by_role"].values()) == 40
    counted = {"seconds", "prompt_tokens", "reused_tokens", "calls", "width", "depth", "memory_bytes", "flops", "cost"}
    assert counted <= set(spent)


def test_a_question_that_is_no_text_is_told_as_such(server: Upstream) -> None:
    command = [*FATHOM, "solve", "--model", f"openai:m@{server.url}"]
    for extra, stdin in (([], b"What is \xff?"), ([b"What is \xff?"], b"")):
        done = subprocess.run([*command, *extra], input=stdin, capture_output=True, timeout=100)
        assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
        assert b"UTF-8" in done.stderr
    assert solve(server, stdin="Was ist 6 × 7?").stdout == "42\n"
    assert server.bodies[-1]["messages"][-1]["content"].endswith("Was ist 6 × 7?")


def test_the_question_comes_from_a_file_or_standard_input(server: Upstream, tmp_path: Path) -> None:
    question = tmp_path / "question.txt"
    question.write_text("What is in the file?")
    assert solve(server, "--file", str(question)).stdout == "42\n"
    assert solve(server, stdin="What is on the pipe?").stdout == "42\n"
    assert solve(server, "-", stdin="And with a dash?").stdout == "42\n"
    asked = [body["messages"][-1]["content"] for body in server.bodies]
    assert {"What is in the file?", "What is on the pipe?", "And with a dash?"} == set(asked)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--strategy", "vopte"], "Did you mean 'vote'"),
        (["--strategy", "vote(widht=3)"], "Did you mean 'width'"),
        (["--strategy", "vote(width=-1)"], "width"),
        (["--within", "soon"], "150ms"),
        (["--within", "0s"], "seconds must be a positive"),
        (["--tokens", "0"], "tokens"),
        (["--memory", "lots"], "2GiB"),
        (["--cost", "1"], "price"),
        (["--verify", "prayer"], "unknown judge"),
        (["--answer", "poem"], "short"),
        (["--file", "/nonexistent/question"], "/nonexistent/question"),
    ],
)
def test_usage_errors_exit_2_with_one_clear_line(server: Upstream, arguments: list[str], says: str) -> None:
    question = [] if "--file" in arguments else ["What?"]
    done = solve(server, *question, *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_unknown_model_says_which_there_are() -> None:
    done = fathom("solve", "Hi", "--model", "qwen2.5-coder-05b")
    assert done.returncode == 2
    assert "Did you mean 'qwen2.5-coder-0.5b'" in done.stderr


def test_an_empty_question_is_refused(server: Upstream) -> None:
    assert "empty" in solve(server, "   ").stderr
    assert solve(server, "   ").returncode == 2


def test_an_unreachable_upstream_says_what_was_tried() -> None:
    done = fathom("solve", "Hi", "--model", "openai:m@http://127.0.0.1:9/v1", "--within", "20s")
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_answer_at_all_exits_3() -> None:
    with Upstream(tokens=say, delay=30) as server:
        done = solve(server, "Hi", "--within", "300ms")
    assert done.returncode == 3
    assert "before there was any answer" in done.stderr


def test_ctrl_c_prints_the_best_answer_so_far_and_exits_130(slow_server: Upstream) -> None:
    command = [
        *FATHOM,
        "solve",
        "Hi",
        "-m",
        f"openai:m@{slow_server.url}",
        "-s",
        "vote(width=5000, wave=4, stop=never)",
    ]
    process = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while len(slow_server.bodies) < 12:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 130
    receipt = json.loads(out)
    assert (receipt["answer"], receipt["stopped"]) == ("42", "cancelled")
    deadline = time.monotonic() + 60
    while slow_server.running and time.monotonic() < deadline:  # until the server sees that its client is gone
        time.sleep(0.02)
    assert slow_server.running == 0


def test_a_terminal_sees_the_clock_the_tally_and_the_receipt(slow_server: Upstream) -> None:
    main, side = pty.openpty()
    command = [*FATHOM, "solve", "Hi", "-m", f"openai:m@{slow_server.url}", "-s", "vote(width=12, wave=4, stop=never)"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen([*command, "--within", "50s"], stdin=side, stdout=side, stderr=side, env=environment)
    os.close(side)
    seen = b""
    while select.select([main], [], [], 100)[0]:
        try:
            seen += os.read(main, 65536)
        except OSError:  # the other side is closed
            break
    os.close(main)
    assert process.wait(100) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert "of 50 s" in text
    assert "thinking" in text
    assert "9 of 12 votes" in text


def test_models_and_strategies_tell_what_there_is() -> None:
    models = json.loads(fathom("models", "--json").stdout)
    assert any("qwen2.5-coder-0.5b" in row["uri"] for row in models)
    assert all(row["state"] for row in models)
    known = json.loads(fathom("strategies", "--json").stdout)
    assert {"direct", "vote", "best-of-n"} <= {entry["name"] for entry in known["strategies"]}
    assert {"tests", "exact", "regex"} <= {entry["name"] for entry in known["judges"]}
    for command in ("models", "strategies"):
        assert fathom(command).returncode == 0


@pytest.mark.parametrize("command", ["solve", "models", "strategies"])
def test_help_has_examples(command: str) -> None:
    done = fathom(command, "--help")
    assert done.returncode == 0
    assert f"fathom {command}" in done.stdout
    assert "Examples" in done.stdout
