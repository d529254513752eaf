"""MNIST, binarised, for unconditional generation (GRAM, arXiv 2605.19376), from a file that the user has.

Read are an ``.npz`` with ``x_train`` and, perhaps, ``x_test``, a file of the original's form (IDX, gzipped or not), and
a folder of two such files, ``train-images…`` and ``t10k-images…``. Labels are not needed.
"""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from fathom.errors import InputError
from fathom.recursive.config import Shape
from fathom.recursive.tasks.digits import Pictures

__all__ = ["Mnist"]

PICTURES = 0x803
"""The first word of an IDX file of bytes in three dimensions."""
HALF = 128
MOST_BYTES = 1 << 28
"""Of a file's pictures. MNIST has 47 MB; a small file may say that it unpacks to anything."""
LARGEST = 64
"""Pixels along a side."""


class Mnist(Pictures):
    """The pictures of ``path``, as they are but for the grey. Where it has none for testing, a sixth is held out."""

    def __init__(self, path: Path) -> None:
        train, test = _read(path)
        if test is None:
            order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
            test, train = train[order[: len(train) // 6]], train[order[len(train) // 6 :]]
        if not len(train) or not len(test) or train.shape[1:] != test.shape[1:]:
            raise InputError(f"{path} holds too few pictures, or of different sizes")
        self.name, self.side = f"mnist:{path}", train.shape[1]
        self.shape = Shape(length=self.side**2, symbols_in=1, symbols_out=2)
        self.defaults: Mapping[str, Any] = {"mixing": "attention", "beta": 0.1, "on_policy_share": 0.5}
        self.paper: Mapping[str, Any] = {"beta": 0.07}
        self.answers, self.held_out = ((part.flatten(1) >= HALF).long() for part in (train, test))


def _read(path: Path) -> tuple[Tensor, Tensor | None]:
    """Pictures to train on and, where there are any, to test on, as bytes (N, side, side)."""
    try:
        if path.is_dir():
            return _idx(_named(path, "train-images")), _idx(_named(path, "t10k-images"))
        if not path.is_file():
            raise ValueError("no such file")
        return _npz(path) if path.suffix == ".npz" else (_idx(path), None)
    except (OSError, EOFError, KeyError, ValueError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path} holds no MNIST pictures ({error}); expected was an .npz with x_train, an IDX file, or a folder"
        ) from error


def _named(folder: Path, beginning: str) -> Path:
    found = sorted(file for file in folder.glob(f"{beginning}*") if file.is_file())
    if not found:
        raise ValueError(f"no file {beginning}… in it")
    return found[0]


def _npz(path: Path) -> tuple[Tensor, Tensor | None]:
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
            raise ValueError("it unpacks to more than any MNIST")
    with numpy.load(path, allow_pickle=False) as arrays:
        return _pictures(arrays["x_train"]), _pictures(arrays["x_test"]) if "x_test" in arrays else None


def _idx(path: Path) -> Tensor:
    """The IDX form: four bytes that say bytes in three dimensions, the dimensions, the bytes."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if zipped else path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    kind, count, rows, columns = struct.unpack(">4I", content[:16].ljust(16, b"\0"))
    if kind != PICTURES:
        raise ValueError(f"{path.name} is no IDX file of pictures")
    if len(content) != 16 + count * rows * columns:
        raise ValueError(f"{path.name} is cut off, or longer than it says")
    return _pictures(numpy.frombuffer(content, numpy.uint8, offset=16).reshape(count, rows, columns))


def _pictures(array: Any) -> Tensor:
    """Raises ``ValueError`` where an array is not one of square grey pictures."""
    if array.dtype != numpy.uint8 or array.ndim != 3 or not 1 <= array.shape[1] == array.shape[2] <= LARGEST:
        raise ValueError(f"an array of {array.dtype} {array.shape} is none of square grey pictures")
    return torch.from_numpy(array.copy())
