"""A model file on its way: the bytes fetched so far, appended in order and never more than the file has. Every source
carries the same bytes, so that what one source began another may go on with, and the length alone says where to resume.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path
from types import TracebackType

from fathom.errors import DownloadError

__all__ = ["DiskFull", "PartialFile", "cannot_write", "no_room", "require_space", "sha256_of"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DiskFull(DownloadError):
    """There is no room for the file; another source would not help."""


def require_space(directory: Path, needed_bytes: int) -> None:
    """Raise DiskFull, before anything is fetched, where ``directory`` has less than ``needed_bytes`` free."""
    if shutil.disk_usage(directory).free < needed_bytes:
        raise no_room(directory, needed_bytes)


def no_room(directory: Path, needed_bytes: int) -> DiskFull:
    """The error for a full disk, with the figures that tell how much to clear."""
    free = shutil.disk_usage(directory).free
    return DiskFull(
        f"no room in {directory}: {needed_bytes:,} more bytes are needed, {free:,} are free. Free some space, or set "
        "FATHOM_CACHE to a directory elsewhere. What was fetched so far is kept; a later call goes on from it"
    )


def cannot_write(directory: Path, needed_bytes: int, error: OSError) -> DownloadError:
    """The error for a directory that took no more: full, over a quota, read-only, not ours."""
    if error.errno in _NO_ROOM:
        return no_room(directory, needed_bytes)
    return DownloadError(f"cannot write to {directory}: {error}. Set FATHOM_CACHE to a directory that can be written")


def sha256_of(path: Path) -> str:
    """The file's sha256 as 64 lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class PartialFile:
    """The first ``length`` of ``size_bytes`` bytes, kept in ``path`` across calls and kills.

    Use as a context manager. Writes are unbuffered: a killed process leaves a prefix of the file, nothing else.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self._file = path.open("ab", buffering=0)
        self.length = self._file.tell()
        if self.length > size_bytes:
            self.truncate(0)

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def missing_bytes(self) -> int:
        """How many bytes are still to be fetched."""
        return self.size_bytes - self.length

    def truncate(self, length: int) -> None:
        """Forget everything from byte ``length`` on."""
        self._file.truncate(length)
        self.length = length

    def append(self, chunk: bytes) -> None:
        """Add ``chunk``; DownloadError where that is more than the file has, DiskFull where there is no room."""
        if len(chunk) > self.missing_bytes:
            raise DownloadError(f"it sent more than the {self.size_bytes:,} bytes that the file has")
        rest = memoryview(chunk)
        try:
            while rest:  # a disk that fills up, or a file-size limit, first shortens a write and fails the next one
                written = self._file.write(rest)
                rest = rest[written:]
                self.length += written
        except OSError as error:
            raise cannot_write(self.path.parent, self.missing_bytes, error) from error

    def flush(self) -> None:
        """Have the bytes on the disk, so that a file that was renamed into place is whole after a power cut too."""
        os.fsync(self._file.fileno())
