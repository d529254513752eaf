"""How trajectories went, packed small: log-probabilities in 16 bits, which is three digits, values in 32, and an answer
wherever it changed.

From the course of a trajectory that can be cut at any depth, all shallower trajectories with its seed are known.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from fathom.lab.records import UNLIMITED, Board, Course, Written

__all__ = ["at_depth", "packed", "unpacked"]

_HALF, _SINGLE = "e", "f"  # of 16 bits and of 32, see the module struct
_LARGEST = 65504.0  # of 16 bits


class _Told(msgspec.Struct, array_like=True):
    """A course as it is kept."""

    logprobs: bytes
    values: bytes
    boards: list[tuple[int, str, bool | None, float]]


def packed(course: Course) -> bytes:
    """The course without what it is known by; not compressed, which gains little and takes longer than all the rest."""
    boards = [(b.depth, b.answer, b.valid, b.score) for b in course.boards]
    told = _Told(_bytes(course.logprobs, _HALF), _bytes(course.values, _SINGLE), boards)
    return msgspec.msgpack.encode(told)


def unpacked(question: int, depth: int, sample: int, told: bytes) -> Course:
    """The course that was packed."""
    found = msgspec.msgpack.decode(told, type=_Told)
    boards = tuple(Board(*board) for board in found.boards)
    logprobs, values = _numbers(found.logprobs, _HALF), _numbers(found.values, _SINGLE)
    return Course(question, depth, sample, logprobs, values, boards)


def _bytes(numbers: Sequence[float], form: str) -> bytes:
    layout = f"<{len(numbers)}{form}"
    try:
        return struct.pack(layout, *numbers)
    except OverflowError:
        return struct.pack(layout, *(min(max(number, -_LARGEST), _LARGEST) for number in numbers))


def _numbers(told: bytes, form: str) -> tuple[float, ...]:
    return struct.unpack(f"<{len(told) // struct.calcsize(form)}{form}", told)


def at_depth(whole: Written, course: Course, depth: int) -> Written | None:
    """The trajectory that would have come of the same seed under a smaller limit on its depth; None where that is not
    known. Its time is its share of that of the whole.
    """
    if depth < 1 or not course.boards or (whole.depth != UNLIMITED and whole.depth < depth):
        return None
    if whole.finished and whole.steps <= depth:
        return replace(whole, depth=depth)
    if depth > min(whole.steps, len(course.values)):
        return None
    held = [board for board in course.boards if board.depth <= depth]
    return replace(
        whole,
        depth=depth,
        key=held[-1].answer,
        parsed=held[-1].valid is not False,
        finished=False,
        score=held[-1].score,
        steps=depth,
        conclusion=0,
        seconds=whole.seconds * depth / whole.steps,
        value=course.values[depth - 1],
        valid=held[-1].valid,
        reason="length",
        answer=held[-1].answer,
        text=held[-1].answer,
    )
