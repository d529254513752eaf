"""Puts ``tests/`` on the path, so that every test can use the servers and models that lie here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import fathom
from fathom.language.model import LanguageModel


@pytest.fixture(scope="session")
def embedded() -> Iterator[LanguageModel]:
    """The real embedded model, opened once for all tests; any event loop can use it."""
    model = fathom.open("embedded")
    assert isinstance(model, LanguageModel)
    yield model
    asyncio.run(model.aclose())
