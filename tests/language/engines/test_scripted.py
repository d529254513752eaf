"""The scripted engine: a script that breaks ends the run, and says why."""

from __future__ import annotations

import asyncio
import random

import pytest

import fathom
from fathom.language.engines.base import Prompt
from fathom.language.engines.scripted import Latency, ScriptedEngine
from fathom.language.model import LanguageModel


@pytest.mark.parametrize("strategy", ["direct", "vote(width=3)", "auto"])
async def test_what_a_script_raises_ends_the_run(strategy: str) -> None:
    def script(prompt: Prompt, rng: random.Random) -> str:
        raise KeyError("no such line")

    model = LanguageModel(ScriptedEngine(script, latency=Latency(0.001, 0.0)))
    with pytest.raises(KeyError, match="no such line"):
        await asyncio.wait_for(fathom.asolve(model, "What is 6 times 7?", strategy=strategy), 120)
