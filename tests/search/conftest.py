"""Searches are tested on the scripted engine, through the same reasoner, driver and meter as any model."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from fathom.language.engines.scripted import Latency, ScriptedEngine
from fathom.language.model import LanguageModel


@pytest.fixture
def scripted() -> Callable[..., LanguageModel]:
    """Makes a model from a script or from answer weights; options are the engine's."""

    def make(script: Any, form: str = "short", **options: Any) -> LanguageModel:
        return LanguageModel(ScriptedEngine(script, **options), form=form)

    return make


@pytest.fixture
def slow() -> Latency:
    """Slow enough that a deadline of a tenth of a second bites."""
    return Latency(first=0.01, token=0.004)


@pytest.fixture
def fresh() -> int:
    """A number that no code can know beforehand."""
    return random.SystemRandom().randrange(1000, 10**6)
