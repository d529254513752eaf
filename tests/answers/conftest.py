"""What is checked in passing may take as long as the machine needs; what would never end is bounded all the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from fathom.answers import documents


@pytest.fixture(scope="package", autouse=True)
def patient_checks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_IN_PASSING", replace(documents._IN_PASSING, seconds=60.0))
        yield
