from __future__ import annotations

import pytest
import torch
from small_models import tiny

from fathom.recursive.model import RecursiveModel
from fathom.recursive.tasks.queens import Queens

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def queens() -> Queens:
    return Queens(8)


@pytest.fixture
def model(queens: Queens) -> RecursiveModel:
    torch.manual_seed(1)
    return RecursiveModel(tiny()[0], queens.shape).eval()
