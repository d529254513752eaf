"""Prompts that were read, on disk, so that a restart does not read them again.

A file holds the cache of one prompt, as llama.cpp writes it. Its name says which model, library and tokens it belongs
to, and the hash of its contents: one that was changed, or that llama.cpp does not take, is refused and removed. The
least recently used go when there are too many bytes of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from fathom.language.download import cache_directory

__all__ = ["PromptStore", "fingerprint"]

_SUFFIX = ".kv"
_SAMPLE = 1 << 20  # bytes of a model file that are hashed at its beginning and its end


class Memory(Protocol):
    """The cache itself (``llama_model.Context``)."""

    def save(self, sequence: int, tokens: Sequence[int], path: Path) -> bool: ...

    def load(self, sequence: int, most: int, path: Path) -> list[int]: ...


def fingerprint(path: Path, version: str) -> str:
    """What tells a model file, run by a release of the library, from any other; reads two pieces of it."""
    found = hashlib.sha256(version.encode())
    with path.open("rb") as file:
        found.update(str(size := file.seek(0, os.SEEK_END)).encode())
        for start in (0, max(0, size - _SAMPLE)):
            file.seek(start)
            found.update(file.read(_SAMPLE))
    return found.hexdigest()


class PromptStore:
    """The prompts of one model. Where nothing can be written, nothing is kept; no method raises.

    ``most`` is the size in bytes of all files together, those of other models included.
    """

    def __init__(self, memory: Memory, model: str, most: int) -> None:
        self._memory, self._model, self._most = memory, model, most
        self._directory = cache_directory() / "prompts"

    def load(self, tokens: Sequence[int], sequence: int) -> bool:
        """Put the cache of a prompt under an empty sequence; False where there is none. Leaves nothing otherwise."""
        for path in self._directory.glob(f"{self._key(tokens)}-*{_SUFFIX}"):
            with contextlib.suppress(OSError):
                whole = _digest(path) == path.stem.rpartition("-")[2]
                if whole and self._memory.load(sequence, len(tokens), path) == list(tokens):
                    os.utime(path)
                    return True
                path.unlink()
        return False

    def save(self, tokens: Sequence[int], sequence: int) -> None:
        """Keep the cache of a sequence that holds just these tokens."""
        key = self._key(tokens)
        with contextlib.suppress(OSError):
            self._directory.mkdir(parents=True, exist_ok=True)
            if any(self._directory.glob(f"{key}-*{_SUFFIX}")):
                return
            with self._written(tokens, sequence) as part:
                if part is not None and part.stat().st_size <= self._most:
                    os.replace(part, self._directory / f"{key}-{_digest(part)}{_SUFFIX}")
            self._trim()

    @contextlib.contextmanager
    def _written(self, tokens: Sequence[int], sequence: int) -> Iterator[Path | None]:
        handle, name = tempfile.mkstemp(dir=self._directory, suffix=".part")
        os.close(handle)
        try:
            yield Path(name) if self._memory.save(sequence, tokens, Path(name)) else None
        finally:
            Path(name).unlink(missing_ok=True)

    def _trim(self) -> None:
        files = sorted(self._directory.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime)
        size = sum(path.stat().st_size for path in files)
        for path in files:
            if size <= self._most:
                return
            size -= path.stat().st_size
            path.unlink()

    def _key(self, tokens: Sequence[int]) -> str:
        told = f"{self._model}:{','.join(map(str, tokens))}"
        return hashlib.sha256(told.encode()).hexdigest()[:32]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
