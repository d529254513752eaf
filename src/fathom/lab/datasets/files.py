"""Datasets from files: JSON lines and CSV with a question, its answer and, where there is one, an id on each row."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fathom.errors import InputError
from fathom.lab.datasets.base import BadRow, Dataset, Question, exactly, refuse_bad_rows

__all__ = ["from_csv", "from_jsonl", "from_rows"]

_QUESTION = ("question", "problem", "prompt")
_ANSWER = ("answer", "solution", "target")
_LONGEST = 100_000  # characters of a question
csv.field_size_limit(10 * _LONGEST)


def from_jsonl(path: Path, skip_bad: bool = False) -> Dataset:
    """Lines of ``{"question": …, "answer": …, "id": …}``; blank lines are passed over.

    Raises InputError, with every bad line, for a file that is not so.
    """

    def rows() -> Iterator[tuple[int, Any]]:
        for number, line in enumerate(_read(path).split("\n"), 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield number, f"not JSON: {error}"

    return from_rows(path.name, rows(), skip_bad)


def from_csv(path: Path, skip_bad: bool = False) -> Dataset:
    """Rows under a header that names the columns question, answer and, where there is one, id."""

    def rows() -> Iterator[tuple[int, Any]]:
        reader = csv.DictReader(io.StringIO(_read(path)), strict=True)
        if reader.fieldnames and not _column(dict.fromkeys(reader.fieldnames, ""), _QUESTION):
            raise InputError(f"{path}: the first row must name the columns, question and answer among them")
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield reader.line_num, f"not CSV: {error}"
                continue
            yield reader.line_num, "more cells than the header has" if None in row else row

    return from_rows(path.name, rows(), skip_bad)


def from_rows(name: str, rows: Iterator[tuple[int, Any]], skip_bad: bool) -> Dataset:
    """A dataset from numbered rows: mappings, or what is wrong with them as text."""
    questions: list[Question] = []
    bad: list[BadRow] = []
    names: set[str] = set()
    for line, row in rows:
        question = _question(row, str(line))
        if isinstance(question, Question) and question.name in names:
            question = f"the id {question.name!r} was there before"
        if isinstance(question, str):
            bad.append(BadRow(line, question))
        else:
            names.add(question.name)
            questions.append(question)
    refuse_bad_rows(name, bad, skip_bad)
    if not questions:
        raise InputError(f"{name} holds no questions")
    return Dataset(name, questions, skipped=tuple(bad))


def _question(row: Any, line: str) -> Question | str:
    """The question of a row, or what is wrong with it."""
    if not isinstance(row, Mapping):
        return row if isinstance(row, str) else f"not an object but {type(row).__name__}"
    asked, answer = _column(row, _QUESTION), _column(row, _ANSWER)
    if asked is None or answer is None:
        missing = "question" if asked is None else "answer"
        return f"has no {missing}; it has {', '.join(map(str, row)) or 'nothing'}"[:200]
    prompt, reference = row[asked], row[answer]
    if isinstance(reference, int | float) and not isinstance(reference, bool):
        reference = str(reference)
    if not isinstance(prompt, str) or not isinstance(reference, str):
        return "question and answer must be texts, or the answer a number"
    if not prompt.strip() or not reference.strip():
        return "question or answer is empty"
    if len(prompt) > _LONGEST:
        return f"the question has {len(prompt)} characters, more than {_LONGEST}"
    name = row.get("id")
    return Question(line if name in (None, "") else str(name), prompt, _final(reference), exactly(_final(reference)))


def _column(row: Mapping[Any, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in row), None)


def _final(reference: str) -> str:
    """The answer alone, where it stands behind a worked solution as in GSM8K (``… #### 42``)."""
    return reference.rpartition("####")[2].strip() or reference.strip()


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
