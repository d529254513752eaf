"""What was generated for nothing is on the account as well."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import fathom
from fathom import Budget
from fathom.language.engines.base import Request, Sampling
from fathom.language.engines.scripted import ScriptedEngine
from fathom.language.engines.threaded import ThreadedChoice, ThreadedGeneration
from fathom.language.model import LanguageModel


class _Words:
    """Tokens 0 are a word, tokens 1 an answer."""

    def ends(self, token: int) -> bool:
        return False

    def piece(self, token: int) -> bytes:
        return b"\\boxed{42}\n" if token else b"word "

    def tokenize(self, text: str) -> list[int]:
        return [0]


class _Counting(ScriptedEngine):
    """An engine with a thread of its own, which counts what it makes: some choices answer, the others would go on."""

    def __init__(self) -> None:
        super().__init__({"42": 1.0})
        self.made, self.lock = 0, threading.Lock()

    def generate(self, request: Request) -> Any:
        return ThreadedGeneration(self, replace(request, sampling=Sampling(stop=("\n",))))

    def forget(self, choices: Sequence[ThreadedChoice]) -> None: ...

    async def start(self, generation: ThreadedGeneration, request: Request) -> Sequence[ThreadedChoice]:
        choices = [ThreadedChoice(generation, i, [0], request, _Words(), self.lock) for i in range(request.n)]

        def work() -> None:
            for step in range(400):
                for index, choice in enumerate(choices):
                    if not choice.closed:
                        self.made += 1
                        choice.append(int(index < 6 and step == 50), 999)
                generation.notify()
                time.sleep(0.0005)

        threading.Thread(target=work, daemon=True).start()
        return choices


@pytest.mark.parametrize("budget", [None, Budget(seconds=60), Budget(tokens=100_000)])
async def test_what_was_cut_because_the_vote_was_decided_is_in_the_account(budget: Budget | None) -> None:
    engine = _Counting()
    result = await fathom.asolve(LanguageModel(engine), "?", strategy="vote(width=16)", budget=budget)
    assert result.receipt.stopped == "decided"
    assert result.receipt.spent.calls == 16
    # a step of each may still be under way when the reader leaves
    assert engine.made - 16 <= result.receipt.spent.tokens <= engine.made
    assert result.receipt.spent.tokens > 16 * 40
