"""Planning is tested on the scripted engine, and keeps what it learns in a directory of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fathom.language.engines.scripted import ScriptedEngine
from fathom.language.model import LanguageModel
from fathom.planning import learned


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(learned, "_known", {})
    monkeypatch.setattr(learned, "_unsaved", {})


@pytest.fixture
def scripted() -> Callable[..., LanguageModel]:
    """Makes a model from a script or from answer weights; options are the engine's."""

    def make(script: Any, form: str = "short", **options: Any) -> LanguageModel:
        return LanguageModel(ScriptedEngine(script, **options), form=form)

    return make
