"""What `obtain` promises whatever the source: one download at a time, a full disk, a checked cache."""

from __future__ import annotations

import asyncio
import io
import json
import math
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from model_sources import HALF, SIZE, Hub, entry_for, in_another_process, output_of

from fathom.errors import DownloadError, FathomError, ModelFileError, UnknownModel
from fathom.language.download import aobtain, cached, main, obtain, print_progress


def test_an_exception_of_the_progress_callback_stops_and_a_later_call_goes_on(
    hub: Hub, cache: Path, content: bytes
) -> None:
    class Enough(Exception):
        pass

    reached = 0

    def stop(done_bytes: int, total_bytes: int, source: str) -> None:
        nonlocal reached
        reached = done_bytes
        raise Enough

    entry = entry_for(content, hub=True)
    with pytest.raises(Enough):
        obtain(entry, progress=stop)
    assert reached > 0
    assert obtain(entry).read_bytes() == content
    assert hub.ranges == ([None] if reached == SIZE else [None, f"bytes={reached}-"])


async def test_a_cancelled_task_stops_the_download_and_a_later_call_goes_on(
    hub: Hub, cache: Path, content: bytes
) -> None:
    hub.bytes_per_second = SIZE / 30
    entry = entry_for(content, hub=True)
    begun = threading.Event()
    task = asyncio.create_task(aobtain(entry, progress=lambda *_: begun.set()))
    assert await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    hub.bytes_per_second = math.inf
    assert (await aobtain(entry)).read_bytes() == content
    first, second = hub.ranges
    assert first is None
    assert second is not None


@pytest.mark.slow
def test_two_processes_fetch_once(hub: Hub, cache: Path, content: bytes) -> None:
    hub.bytes_per_second = SIZE / 30
    entry, told = entry_for(content, hub=True), "print(source, flush=True)"
    first = in_another_process(entry, on_progress=told)
    while not hub.ranges:
        time.sleep(0.01)
    second = in_another_process(entry, on_progress=told)
    assert second.stdout is not None
    assert second.stdout.readline() == "another process\n"
    hub.bytes_per_second = math.inf
    outputs = [output_of(process) for process in (first, second)]
    assert hub.ranges == [None]
    assert [output.splitlines()[-1] for output in outputs] == [str(cache / "models" / "tiny.gguf")] * 2
    assert "another process" not in outputs[0]


def test_several_threads_fetch_once(hub: Hub, cache: Path, content: bytes) -> None:
    hub.bytes_per_second = 2 * SIZE
    entry = entry_for(content, hub=True)
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(obtain(entry))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in paths] == [content] * 4
    assert hub.ranges == [None]


def test_a_file_larger_than_the_disk_is_not_begun(hub: Hub, cache: Path, content: bytes) -> None:
    with pytest.raises(DownloadError, match=r"no room in .*models: 1,152,921,504,606,846,976 more bytes.*FATHOM_CACHE"):
        obtain(entry_for(content, hub=True, size=2**60))
    assert hub.ranges == []


def test_a_disk_that_fills_up_on_the_way_is_reported_and_what_came_is_kept(
    hub: Hub, cache: Path, content: bytes
) -> None:
    entry = entry_for(content, hub=True)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    output = output_of(in_another_process(entry, before=limit))
    assert re.match(r"DiskFull no room in .*models: 200,000 more bytes are needed, [\d,]+ are free", output)
    assert "Traceback" not in output
    assert obtain(entry).read_bytes() == content
    assert hub.ranges == [None, "bytes=100000-"]


def test_a_cache_that_cannot_be_a_directory_is_reported(hub: Hub, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match=r"cannot write to .*FATHOM_CACHE"):
        obtain(entry_for(content, hub=True), cache_dir=tmp_path / "file")


def _flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[HALF] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    os.truncate(path, HALF)


@pytest.mark.parametrize("damage", [_flip_a_byte, _cut])
def test_a_damaged_file_is_found_and_fetched_again(
    damage: Callable[[Path], None], hub: Hub, cache: Path, content: bytes
) -> None:
    entry = entry_for(content, hub=True)
    path = obtain(entry)
    damage(path)
    assert cached(entry) is None
    assert obtain(entry).read_bytes() == content
    assert len(hub.ranges) == 2


def test_a_damaged_file_that_cannot_be_fetched_again_is_refused(hub: Hub, cache: Path, content: bytes) -> None:
    entry = entry_for(content, hub=True)
    path = obtain(entry)
    _cut(path)
    hub.status = 404
    with pytest.raises(ModelFileError, match=r"it has 150,000 bytes, not 300,000.*is removed.*404"):
        obtain(entry)
    assert not path.exists()


def test_a_file_put_into_the_cache_by_hand_is_checked_and_taken(hub: Hub, cache: Path, content: bytes) -> None:
    entry = entry_for(content, hub=True)
    (cache / "models").mkdir(parents=True)
    (cache / "models" / "tiny.gguf").write_bytes(content)
    assert cached(entry) is None
    assert obtain(entry) == cached(entry)
    assert hub.ranges == []


@pytest.mark.parametrize("stamp", ["", "[]", "{", json.dumps({"sha256": "0" * 64, "size": SIZE, "mtime_ns": 0})])
def test_a_stamp_that_makes_no_sense_costs_a_reading_only(stamp: str, hub: Hub, cache: Path, content: bytes) -> None:
    entry = entry_for(content, hub=True)
    (obtain(entry).parent / "tiny.gguf.verified").write_text(stamp)
    assert cached(entry) is None
    assert obtain(entry) == cached(entry)
    assert hub.ranges == [None]


def test_an_unknown_name_is_refused_with_those_that_there_are(cache: Path) -> None:
    with pytest.raises(UnknownModel, match=r"smollm2-135m"):
        obtain("smollm2")
    assert not cache.exists()


def test_an_entry_without_sources_is_a_plain_error(cache: Path, content: bytes) -> None:
    with pytest.raises(FathomError, match="could not fetch tiny"):
        obtain(entry_for(content))


def test_progress_without_a_terminal_is_a_line_every_tenth() -> None:
    out = io.StringIO()
    show = print_progress("tiny", out)
    for done in range(0, 1001, 3):
        show(done, 1000, "hub")
    show(1000, 1000, "hub")
    lines = out.getvalue().splitlines()
    assert len(lines) == 11
    assert lines[0].startswith("tiny:   0 %")
    assert lines[-1].startswith("tiny: 100 %")


def test_progress_on_a_terminal_rewrites_one_line() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    show = print_progress("tiny", out)
    for done in (0, 500, 505, 1000):
        show(done, 1000, "hub")
    assert out.getvalue().count("\r") == 3
    assert out.getvalue().count("\n") == 1


@pytest.mark.slow
def test_command_prints_where_a_model_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smollm2-135m"]) == 0
    assert Path(capsys.readouterr().out.split(" (")[0]).stat().st_size > 90_000_000


def test_command_reports_errors_by_its_exit_status(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([]) == 2
    assert main(["gpt-7"]) == 2
    assert "unknown embedded model 'gpt-7'" in capsys.readouterr().err
    cache.write_text("a file where a directory has to be")
    assert main(["smollm2-135m"]) == 1
    assert "cannot write to" in capsys.readouterr().err
