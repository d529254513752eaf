"""Puts ``tests/`` on the path, so that every test can use the servers and models that lie here; no test is timed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import settings

import fathom
from fathom.language.model import LanguageModel

# how long an example takes is the machine's affair; coverage makes each of them several times slower
settings.register_profile("fathom", deadline=None, max_examples=40)
settings.load_profile("fathom")


@pytest.fixture(scope="session")
def embedded() -> Iterator[LanguageModel]:
    """The real embedded model, opened once for all tests; any event loop can use it."""
    model = fathom.open("embedded")
    assert isinstance(model, LanguageModel)
    yield model
    asyncio.run(model.aclose())
