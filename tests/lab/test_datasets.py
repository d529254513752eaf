"""Datasets by their specs: what they ask, what they accept as right, and how they refuse what is no question."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from fathom.errors import FathomError, InputError, MissingDependency, SpecError
from fathom.lab.datasets import generated, gym, load_dataset


def right(question: object, answer: str) -> bool:
    return asyncio.run(question.score(answer)) == 1.0  # type: ignore[attr-defined]


def test_arithmetic_is_drawn_by_the_seed_and_knows_its_answers() -> None:
    seed = random.SystemRandom().randrange(10**6)
    data = load_dataset("arithmetic:30", seed=seed)
    assert [q.prompt for q in data.questions] == [
        q.prompt for q in load_dataset("arithmetic", questions=30, seed=seed).questions
    ]
    assert [q.prompt for q in data.questions] != [
        q.prompt for q in load_dataset("arithmetic:30", seed=seed + 1).questions
    ]
    for question in data.questions:
        a, sign, b = question.prompt.removeprefix("What is ").removesuffix("?").split()
        value = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign]
        assert right(question, f"{value}.0")
        assert not right(question, f"{value + 1}")
    for spec in ("arithmetic:none", "arithmetic:-1", "arithmetic:٣"):
        with pytest.raises(SpecError):
            load_dataset(spec)


def test_json_lines_and_csv_hold_the_same_questions(tmp_path: Path) -> None:
    lines, cells = tmp_path / "q.jsonl", tmp_path / "q.csv"
    rows = [("a", "What, then?", "x > 3"), ("b", 'He said "2"\nand 2', "so it is 4 #### 1,004"), ("c", "ü?", "0.50")]
    lines.write_text("\n\n".join(json.dumps({"id": i, "question": q, "answer": a}) for i, q, a in rows))
    quoted = "\n".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)
    cells.write_text("id,question,answer\n" + quoted, encoding="utf-8-sig")
    one, two = load_dataset(str(lines)), load_dataset(str(cells))
    assert [(q.name, q.prompt, q.reference) for q in one.questions] == [
        (q.name, q.prompt, q.reference) for q in two.questions
    ]
    assert right(one.questions[1], "1004")
    assert right(one.questions[2], "1/2")
    assert len(load_dataset(str(lines), questions=2).questions) == 2


def test_bad_rows_are_listed_with_their_lines_and_left_out_on_request_only(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    rows = ['{"question": "1?", "answer": 1}', "", "[1]", '{"question": "", "answer": "2"}', '{"question": "3?"}', "{"]
    rows += ['{"question": 4, "answer": "4"}', "[" * 100_000, '{"id": "1", "question": "again?", "answer": "5"}']
    path.write_text("\n".join(rows))
    with pytest.raises(InputError) as refused:
        load_dataset(str(path))
    wrong = ["not an object", "question or answer is empty", "has no answer", "not JSON"]
    wrong += ["question and answer must be texts", "not JSON", "the id '1' was there before"]
    for line, why in enumerate(wrong, 3):
        assert f"line {line}: {why}" in str(refused.value), str(refused.value)
    kept = load_dataset(str(path), skip_bad=True)
    assert [q.prompt for q in kept.questions] == ["1?"]
    assert [row.line for row in kept.skipped] == [3, 4, 5, 6, 7, 8, 9]


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "head.csv").write_text("a,b\n1,2\n")
    (tmp_path / "ragged.csv").write_text("question,answer\n1?,1,2,3\n")
    for name in ("binary.jsonl", "empty.jsonl", "missing.jsonl", "head.csv", "ragged.csv", "what"):
        with pytest.raises(FathomError):
            load_dataset(str(tmp_path / name) if "." in name else name)


@pytest.mark.slow
def test_hidden_tests_decide_on_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated, "PROBLEM_SECONDS", 120.0)  # of a busy machine
    data = load_dataset("human-eval")
    assert (len(data.questions), data.form) == (164, "code")
    close = data.questions[0]
    assert "has_close_elements" in close.prompt
    body = "    return any(abs(a - b) < threshold for i, a in enumerate(numbers) for b in numbers[:i])\n"
    head = "from typing import List\n\ndef has_close_elements(numbers: List[float], threshold: float) -> bool:\n"
    assert right(close, head + body)
    assert not right(close, head + "    return True\n")
    assert not right(close, "import os; os._exit(0)")


STAND_IN = '''
"""A package with the interface of reasoning-gym, and a verifier that evaluates, hangs, dies and talks nonsense."""
import os, time
class Doubling:
    def __init__(self, size, seed):
        self.rows = [{"question": f"Twice {i}?", "answer": str(2 * i)} for i in range(seed, seed + size)]
    def __getitem__(self, i): return self.rows[i]
    def score_answer(self, answer, entry):
        print("chatter")
        if "hang" in answer: time.sleep(60)
        if "die" in answer: os._exit(1)
        if "much" in answer: return 7.0
        return float(eval(answer) == int(entry["answer"]))
def create_dataset(name, size, seed): return Doubling(size, seed)
'''


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "path" / "reasoning_gym"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    (package / "factory.py").write_text("DATASETS = {'doubling': None}")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    for name in ("reasoning_gym", "reasoning_gym.factory"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)


@pytest.mark.slow
def test_a_verifier_runs_apart_and_whatever_it_does_is_only_a_score(
    stand_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.SystemRandom().randrange(10**3, 10**6)
    data = load_dataset("reasoning-gym:doubling", questions=3, seed=seed)
    question = data.questions[1]

    async def scores(answers: list[str]) -> list[float]:
        try:
            return [await question.score(answer) for answer in answers]
        finally:
            assert data.close is not None
            await data.close()

    double = 2 * (seed + 1)
    said = [
        str(double),
        f"{double - 5} + 5",
        f"{double} + 1",
        "much",
        "die",
        "1 +",
        "__import__('os')",
        f"{double} * 1",
    ]
    monkeypatch.setattr(gym, "SECONDS", 120.0)  # a process starts slowly on a busy machine
    assert asyncio.run(scores(said)) == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]

    async def around_a_hang() -> list[float]:
        assert data.close is not None
        before = await question.score(f"{double} * 1")
        with monkeypatch.context() as impatient:
            impatient.setattr(gym, "SECONDS", 2.0)
            hung = await question.score("hang")
        after = await question.score(f"{double} * 1")
        await data.close()
        return [before, hung, after]

    assert asyncio.run(around_a_hang()) == [1.0, 0.0, 1.0]
    with pytest.raises(SpecError, match="doubling"):
        load_dataset("reasoning-gym:trebling")
    with pytest.raises(SpecError, match="unexpected"):
        load_dataset("reasoning-gym:doubling(terms=3)")


def test_what_needs_a_package_that_is_not_there_names_the_extra() -> None:
    with pytest.raises(MissingDependency, match=r"fathom-inference\[datasets\]"):
        load_dataset("hf:some/dataset")
