"""What a judge is worth: the AUC against its definition, the accounts, and files that are not what they should be."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.errors import InputError
from fathom.judges.base import Candidate, Verdict
from fathom.judges.calibration import Labelled, calibrate, load_labelled, pairs_in_order
from fathom.judges.function import Function
from fathom.judges.llm import LLM
from fathom.language.engines.scripted import ScriptedEngine
from fathom.language.model import LanguageModel

scores = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), max_size=12)


@given(scores, scores)
def test_pairs_in_order_is_the_count_over_all_pairs(right: list[float], wrong: list[float]) -> None:
    expected = sum((a > b) + 0.5 * (a == b) for a in right for b in wrong)
    assert pairs_in_order(right, wrong) == expected
    assert pairs_in_order(right, wrong) + pairs_in_order(wrong, right) == len(right) * len(wrong)


async def test_within_looks_at_each_question_by_itself() -> None:
    """A judge that knows easy questions from hard ones, and nothing else, shows when pooled and not within."""
    easy = Labelled("easy", tuple(Candidate(f"{i}", "e") for i in range(4)), (True, True, True, False))
    hard = Labelled("hard", tuple(Candidate(f"{i}", "h") for i in range(4)), (True, False, False, False))
    knows_questions = Function(lambda problem, candidate: 0.9 if problem == "easy" else 0.1)
    found = await calibrate("f", knows_questions, [easy, hard])
    assert found.auc_within == 0.5
    assert found.auc_pooled == pytest.approx((3 * 3 + 0.5 * (3 * 1 + 1 * 3)) / 16)
    assert (found.questions, found.judged, found.unjudged) == (2, 8, 0)


async def test_what_has_no_verdict_is_counted_apart() -> None:
    def half(problem: str, candidate: Candidate) -> Verdict:
        return Verdict.failed("no idea") if candidate.text == "x" else Verdict(0.5)

    data = [Labelled("q", (Candidate("x"), Candidate("y")), (True, False))]
    found = await calibrate("f", Function(half), data)
    assert (found.judged, found.unjudged, found.auc_within, found.auc_pooled) == (1, 1, None, None)


async def test_a_model_judge_is_accounted_for() -> None:
    rng = random.Random(random.SystemRandom().random())
    right = str(rng.randrange(1000, 9999))

    def script(prompt: Any, rng: random.Random) -> str:
        return json.dumps({"score": 5 if right in prompt.messages[-1].content else 2})

    data = [Labelled("q", (Candidate(f"It is {right}", right), Candidate("It is 7", "7")), (True, False))]
    found = await calibrate("llm", LLM(), data, LanguageModel(ScriptedEngine(script)))
    assert (found.auc_within, found.auc_pooled) == (1.0, 1.0)
    assert (found.tokens, found.calls) == (4, 2)


def test_a_dataset_is_read(tmp_path: Path) -> None:
    row = {"question": "q", "candidates": [{"text": "t", "answer": "a", "correct": True, "logprobs": [-1]}]}
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(row) + "\n\n" + json.dumps(row), "utf-8")
    first, second = load_labelled(path)
    assert first == second == Labelled("q", (Candidate("t", "a"),), (True,))
    assert first.candidates[0].logprobs == (-1.0,)


GARBAGE = ["", "{}", "[]", "nonsense", '{"question": "q", "candidates": [{"text": "t"}]}', "[" * 5000]
GARBAGE += ['{"question": "q", "candidates": [{"text": "t", "correct": 1}]}', '{"question": 1, "candidates": []}']


@pytest.mark.parametrize("text", GARBAGE)
def test_what_is_no_dataset_is_one_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=r"d\.jsonl"):
        load_labelled(path)
