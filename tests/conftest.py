"""Puts ``tests/`` on the path, so that every test can use the servers and models that lie here; no test is timed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

import fathom
from fathom.answers import expressions
from fathom.language.model import LanguageModel
from fathom.planning import learned

# How long an example takes is the machine's affair; coverage makes each of them several times slower. Every run tries
# the same examples, so that a failure is there for whoever looks for it; `--hypothesis-profile=default` tries others.
settings.register_profile(
    "fathom", deadline=None, max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fathom")

# what a shell starts in the background ignores Ctrl-C, and so would all that the tests start
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def patience() -> Iterator[None]:
    """To read an expression takes milliseconds and may take a minute: a machine that stalls changes no answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expressions, "SECONDS", 60.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def unlearned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What busy tests teach of this machine's speed is not for its user, and what its user taught not for them."""
    kept, of_user = tmp_path_factory.mktemp("costs"), learned._directory
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learned, "_directory", lambda: of_user() if "FATHOM_CACHE" in os.environ else kept)
        yield


@pytest.fixture(scope="session")
def embedded() -> Iterator[LanguageModel]:
    """The real embedded model, opened once for all tests; any event loop can use it."""
    model = fathom.open("embedded")
    assert isinstance(model, LanguageModel)
    yield model
    asyncio.run(model.aclose())
