"""Prompts on disk: they survive a restart, and nothing damaged is believed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from pathlib import Path

import pytest
from heard import Heard, hear

from fathom.errors import LimitError
from fathom.language.download import obtain
from fathom.language.engines.base import Finish, Prompt, Request, Sampling
from fathom.language.engines.llama import LlamaEngine
from fathom.records import Message

pytestmark = pytest.mark.slow

GREEDY = Sampling(temperature=0.0, logprobs=True)


@pytest.fixture(scope="module")
def path() -> Path:
    return obtain("smollm2-135m")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path))
    return tmp_path / "prompts"


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def system() -> Message:
    return Message("system", f"You are clerk {random.randrange(10**8, 10**9)}, and answer in few words.")


async def restarted(path: Path, message: Message, *, disk: int | str = "64MiB") -> tuple[int, Heard]:
    """A new engine is warmed with a message and asked a question: the tokens of the first, and what came."""
    engine = LlamaEngine(path, context=256, max_width=2, disk=disk)
    opening = Prompt((message,))
    await engine.warm(opening)
    length = await engine.count(opening)
    asked = Prompt((message, Message("user", "What is it?")))
    (told,) = await hear(engine, Request(asked, max_tokens=4, sampling=GREEDY))
    await engine.aclose()
    return length, told


async def test_a_prompt_survives_a_restart(path: Path, folder: Path) -> None:
    message = system()
    length, first = await restarted(path, message)
    (file,) = files(folder)
    before = file.stat().st_mtime_ns
    os.utime(file, (0, 0))
    _, again = await restarted(path, message)
    assert files(folder) == [file]
    assert file.stat().st_mtime_ns >= before  # it was used
    assert again.text == first.text
    assert again.logprobs == pytest.approx(first.logprobs, abs=0.05)
    assert again.reused_tokens == first.reused_tokens > length - 8
    await restarted(path, system())
    assert len(files(folder)) == 2


@pytest.mark.parametrize("damage", ["a bit", "cut", "empty", "garbage under a true name"])
async def test_a_damaged_file_is_refused_and_removed(damage: str, path: Path, folder: Path) -> None:
    message = system()
    _, first = await restarted(path, message)
    (file,) = files(folder)
    content = bytearray(file.read_bytes())
    if damage == "a bit":
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    else:
        content = content[: {"cut": len(content) // 2, "empty": 0}.get(damage, 3)]
    file.write_bytes(content)
    if damage.startswith("garbage"):
        name = f"{file.stem.rpartition('-')[0]}-{hashlib.sha256(content).hexdigest()[:32]}.kv"
        file = file.rename(folder / name)
    _, again = await restarted(path, message)
    assert again.logprobs == pytest.approx(first.logprobs, abs=0.05)
    (file,) = files(folder)
    assert file.stat().st_size > 1000


async def test_the_least_recently_used_goes_when_there_is_too_much(path: Path, folder: Path) -> None:
    messages = [system() for _ in range(3)]
    await restarted(path, messages[0])
    (file,) = files(folder)
    size = file.stat().st_size
    os.utime(file, (1, 1))
    for message in messages[1:]:
        await restarted(path, message, disk=int(2.5 * size))
    assert len(files(folder)) == 2
    assert file not in files(folder)
    await restarted(path, system(), disk=size // 2)
    assert files(folder) == []


async def test_where_nothing_can_be_written_nothing_is_kept(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path / "file"))
    _, told = await restarted(path, system())
    assert told.tokens > 0
    assert told.finish is not Finish.FAILED


async def test_by_default_nothing_is_kept(path: Path, folder: Path) -> None:
    await restarted(path, system(), disk=0)
    assert files(folder) == []
    with pytest.raises(LimitError):
        await asyncio.to_thread(LlamaEngine, path, disk="plenty")
