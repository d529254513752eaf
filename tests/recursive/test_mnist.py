"""MNIST from the files that people have, made here: read alike, split, refused where they are none."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from small_models import tiny

from fathom.errors import InputError
from fathom.recursive.tasks import open_task
from fathom.recursive.tasks.mnist import Mnist
from fathom.recursive.training import Trainer

Array = numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.uint8]]


def pictures(count: int, side: int = 10) -> Array:
    """Grey pictures, drawn now."""
    return numpy.random.default_rng().integers(0, 256, (count, side, side), dtype=numpy.uint8)


def idx(array: Array) -> bytes:
    return numpy.array([0x803, *array.shape], ">u4").tobytes() + array.tobytes()


def as_npz(folder: Path, train: Array, test: Array) -> Path:
    numpy.savez_compressed(folder / "mnist.npz", x_train=train, y_train=numpy.zeros(len(train)), x_test=test)
    return folder / "mnist.npz"


def as_folder(folder: Path, train: Array, test: Array) -> Path:
    (folder / "train-images-idx3-ubyte").write_bytes(idx(train))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(test)))
    return folder


@pytest.mark.parametrize("form", [as_npz, as_folder])
def test_pictures_are_read_from_either_form_and_binarised(
    tmp_path: Path, form: Callable[[Path, Array, Array], Path]
) -> None:
    train, test = pictures(9), pictures(4)
    task = open_task(f"mnist:{form(tmp_path, train, test)}")
    assert isinstance(task, Mnist)
    assert (task.side, task.shape.length) == (10, 100)
    assert torch.equal(task.answers.view(9, 10, 10).bool(), torch.from_numpy(train) >= 128)
    assert torch.equal(task.held_out.view(4, 10, 10).bool(), torch.from_numpy(test) >= 128)


def test_of_one_file_a_sixth_is_held_out_and_the_task_trains(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(idx(pictures(30, 6)))
    task = open_task(f"mnist:{tmp_path / 'images'}")
    assert isinstance(task, Mnist)
    assert (len(task.answers), len(task.held_out)) == (25, 5)
    assert task.valid(torch.zeros(5, 36), task.held_out).all()
    far = 1 - task.answers[:1]
    assert bool(task.valid(torch.zeros(1, 36), far)) == any(
        int((far[0] != one).sum()) <= 2 for one in torch.cat((task.answers, task.held_out))
    )
    x, y = task.batch(8, torch.Generator().manual_seed(0))
    noisy = torch.where(torch.rand(y.shape) < 0.3, 1 - y, y)
    near = task.nearest(x, noisy, y)
    best = [min(int((noise != one).sum()) for one in task.answers) for noise in noisy]
    assert (near != noisy).sum(-1).tolist() == best
    trainer = Trainer(task, *tiny(batch=4, mixer=8))
    trainer.advance()
    assert 0 <= trainer.validate()["score"] <= 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("cut", idx(numpy.zeros((3, 8, 8), numpy.uint8))[:-1], "cut off"),
        ("long", numpy.array([0x803, 2**31, 2**31, 2**31], ">u4").tobytes(), "cut off"),
        ("labels", numpy.array([0x801, 3], ">u4").tobytes() + b"abc", "no IDX"),
        ("oblong", idx(numpy.zeros((3, 8, 9), numpy.uint8)), "square"),
        ("empty", b"", "no IDX"),
        ("short", b"ab", "no IDX"),
        ("zipped.gz", gzip.compress(idx(numpy.zeros((3, 8, 8), numpy.uint8)), mtime=0)[:-9], "ended before"),
        ("one", idx(numpy.zeros((1, 8, 8), numpy.uint8)), "too few"),
        ("fake.npz", b"PK no zip at all", "zip"),
    ],
)
def test_a_file_that_holds_no_pictures_is_one_clear_error(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        open_task(f"mnist:{tmp_path / name}")


def test_an_archive_without_pictures_or_a_path_without_files_is_refused(tmp_path: Path) -> None:
    for arrays, says in (
        ({"other": numpy.zeros(3)}, "x_train"),
        ({"x_train": numpy.zeros((3, 8, 8))}, "float64"),
        ({"x_train": numpy.array([{}], dtype=object)}, "pickle"),
    ):
        numpy.savez(tmp_path / "bad.npz", **arrays)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=says):
            open_task(f"mnist:{tmp_path / 'bad.npz'}")
    (tmp_path / "folder").mkdir()
    for path, says in (("folder", "no file train-images"), ("absent", "no such file")):
        with pytest.raises(InputError, match=says):
            open_task(f"mnist:{tmp_path / path}")
    with pytest.raises(InputError, match="mnist:PATH"):
        open_task("mnist")
