"""The real small model through the whole house: questions in, answers and receipts out."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

import fathom
from fathom import Budget, LimitError, StopReason
from fathom.errors import PromptTooLong
from fathom.language.model import LanguageModel
from fathom.models import open_model

pytestmark = pytest.mark.slow


@pytest.fixture
async def model() -> AsyncIterator[LanguageModel]:
    model = await open_model("embedded")
    assert isinstance(model, LanguageModel)
    yield model
    await model.aclose()


async def test_sums_are_right_and_the_account_adds_up(model: LanguageModel) -> None:
    result = await fathom.asolve(model, "What is 20 + 30?", strategy="vote(width=9)", budget=Budget(depth=160))
    assert result.answer == "50"
    spent = result.receipt.spent
    assert spent.tokens == sum(spent.tokens_by_role.values()) > 0
    assert spent.reused_tokens > spent.prompt_tokens  # the instructions were read ahead, the question once
    assert spent.flops > 0
    assert result.receipt.stopped in (StopReason.DECIDED, StopReason.EXHAUSTED)


async def test_a_deadline_is_kept_and_answered(model: LanguageModel) -> None:
    result = await fathom.asolve(model, "What is 31 + 44?", strategy="vote(width=64, stop=never)", within=10)
    assert result.receipt.stopped is StopReason.DEADLINE
    assert result.answer


async def test_after_a_run_was_cut_the_model_is_free_at_once(model: LanguageModel) -> None:
    task = asyncio.create_task(fathom.asolve(model, "Tell me about the sea.", strategy="vote(width=64, stop=never)"))
    await asyncio.sleep(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    result = await fathom.asolve(model, "What is 20 + 30?", strategy="direct", budget=Budget(depth=60))
    assert result.answer == "50"


async def test_code_is_verified_by_the_examples_in_its_docstring(model: LanguageModel) -> None:
    n = random.SystemRandom().randrange(100, 999)
    question = f'def add_{n}(x: int) -> int:\n    """Return x plus {n}.\n\n    >>> add_{n}(1)\n    {n + 1}\n    """\n'
    result = await fathom.asolve(model, question, verify="tests", budget=Budget(width=12, depth=200))
    assert result.receipt.valid is True
    assert result.receipt.stopped is StopReason.VERIFIED
    assert str(n) in result.answer


async def test_a_deadline_too_short_to_read_the_prompt_says_how_long_it_takes(model: LanguageModel) -> None:
    question = "Sum these: " + " ".join(str(random.randrange(100)) for _ in range(1500))
    with pytest.raises(LimitError, match="read the") as caught:
        await fathom.asolve(model, question, within="100ms")
    assert caught.value.limit == "seconds"


async def test_a_prompt_longer_than_the_context_is_refused_before_anything_is_spent(model: LanguageModel) -> None:
    with pytest.raises(PromptTooLong, match="context"):
        await fathom.asolve(model, "word " * 40_000)


def test_the_command_answers_and_says_what_it_cost() -> None:
    command = [sys.executable, "-c", "from fathom.cli import main; main()", "solve", "What is 20 + 21?"]
    done = subprocess.run([*command, "--width", "3", "--json"], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    receipt = json.loads(done.stdout)
    assert receipt["answer"] == "41"
    assert receipt["spent"]["memory_bytes"] > 0


def test_a_damaged_model_file_is_named(tmp_path: object) -> None:
    path = f"{tmp_path}/broken.gguf"
    with open(path, "wb") as file:
        file.write(b"GGUF" + random.randbytes(4000))
    command = [sys.executable, "-c", "from fathom.cli import main; main()", "solve", "Hi", "--model", f"gguf:{path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 1
    assert path in done.stderr
    assert "Traceback" not in done.stderr
