from __future__ import annotations

import hypothesis
import pytest
import torch
from small_models import tiny

from fathom.recursive.model import RecursiveModel
from fathom.recursive.tasks.queens import Queens

torch.set_num_threads(1)
# The first example pays for what torch sets up on its first use.
hypothesis.settings.register_profile("torch")
hypothesis.settings.load_profile("torch")


@pytest.fixture(scope="session")
def queens() -> Queens:
    return Queens(8)


@pytest.fixture
def model(queens: Queens) -> RecursiveModel:
    torch.manual_seed(1)
    return RecursiveModel(tiny()[0], queens.shape).eval()
