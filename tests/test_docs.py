"""What the documentation shows runs: every Python example, every command's options, every link to a file."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from fathom.cli import app
from fathom.specs import parse_pipeline

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_examples_run_from_top_to_bottom(page: Path) -> None:
    source = "\n".join(blocks(page, "python"))
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=290)
    assert done.returncode == 0, done.stderr


def commands() -> list[str]:
    lines = [line for page in PAGES for block in blocks(page, "console") for line in block.splitlines()]
    return sorted({line[2:].partition("#")[0].strip() for line in lines if line.startswith("$ fathom")})


@pytest.mark.parametrize("line", commands())
def test_commands_have_the_options_that_the_docs_use(line: str) -> None:
    _, name, *words = shlex.split(line)
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-") and word != "-"} <= known
    for option, value in itertools.pairwise(words):
        if option in ("--strategy", "-s", "--verify"):
            assert parse_pipeline(value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 200


def test_make_targets_and_scripts_that_the_docs_name_exist() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make ([a-z]+)`", text)) | set(re.findall(r"^\$ make ([a-z]+)", text, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for script in set(re.findall(r"benchmarks/\w+\.py", text)):
        assert (ROOT / script).exists(), script
