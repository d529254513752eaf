"""``fathom explore``: numbers for machines, a table and a picture for people."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fathom.cli.explore import explore
from fathom.errors import UsageError


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from fathom.cli import main; main()", "explore", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=cwd)


@pytest.mark.slow
def test_the_plane_is_printed_and_drawn(tmp_path: Path) -> None:
    done = run("coloring-8", "--depth", "4", "--width", "2", "--inputs", "8", "--out", "mine.svg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[2:]] == [
        [str(depth), str(width)] for depth in (1, 2, 4) for width in (1, 2)
    ]
    assert "<svg" in (tmp_path / "mine.svg").read_text()[:600]


@pytest.mark.slow
def test_json_has_every_cell_and_no_picture_unless_asked(tmp_path: Path) -> None:
    done = run("coloring-8", "--depth", "2", "--width", "2", "--inputs", "6", "--seed", "3", "--json", cwd=tmp_path)
    plane = json.loads(done.stdout)
    assert (plane["task"], plane["inputs"], plane["seed"], plane["picture"]) == ("coloring-8", 6, 3, None)
    assert [(cell["depth"], cell["width"]) for cell in plane["cells"]] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for cell in plane["cells"]:
        assert cell["vote"]["low"] <= cell["vote"]["value"] <= cell["vote"]["high"]
        assert cell["seconds"] > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_noise_gives_a_deterministic_model_width(tmp_path: Path) -> None:
    arguments = ("queens-8-trm", "--depth", "4", "--width", "8", "--inputs", "24", "--json")
    still, moved = (json.loads(run(*arguments, *noise, cwd=tmp_path).stdout) for noise in ((), ("--noise", "0.6")))
    by_depth = [
        [[cell["valid"]["value"] for cell in plane["cells"] if cell["depth"] == depth] for depth in (1, 2, 4)]
        for plane in (still, moved)
    ]
    assert all(len(set(valid)) == 1 for valid in by_depth[0])
    assert sum(valid[-1] for valid in by_depth[1]) > sum(valid[0] for valid in by_depth[1])
    assert (still["checkpoint"], moved["checkpoint"]) == ("queens-8-trm", "queens-8-trm(noise=0.6)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"checkpoint": "coloring-8", "noise": 0.6}, "a prior of its own"),
        ({"checkpoint": "coloring-8", "out": Path("plane.xyz")}, r"\.png"),
        ({"checkpoint": "coloring-8", "select_by": "luck"}, "unknown selection 'luck'"),
        ({"checkpoint": "coloring-9"}, "coloring-8"),
        ({"checkpoint": "coloring-8", "depth": 0}, "depth must be at least 1"),
        ({"checkpoint": "coloring-8", "inputs": 0}, "inputs must be at least 1"),
    ],
)
def test_what_cannot_be_explored_is_refused(
    arguments: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = {"select_by": "vote", "out": Path("plane.png"), "noise": None}
    with pytest.raises(UsageError, match=message):
        explore(**plain | arguments)
    assert not list(tmp_path.iterdir())
