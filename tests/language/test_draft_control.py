"""The control of drafts: it pays or it is off, on the simulated machines of ``benchmarks/speculation.py``.

Machines are noisy, and seeds are fixed: a correct program passes always.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.language.draft_control import CHAINS, DraftControl, Shape


def _benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "speculation.py"
    spec = importlib.util.spec_from_file_location("speculation_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


simulated = _benchmark()
BY_NAME = {scene.name: scene for scene in simulated.SCENES}


@pytest.mark.parametrize("name", BY_NAME)
def test_it_is_never_slower_than_plain_by_more_than_three_percent(name: str) -> None:
    scene = BY_NAME[name]
    for seed in range(3):
        found = simulated.simulate(scene, simulated.controlled(scene), 2500, seed)
        assert found.ratio <= 1.03


@pytest.mark.parametrize(
    "name",
    [name for name in BY_NAME if name.startswith(("CPU", "slow", "memory")) and not BY_NAME[name].drafting],
)
def test_nor_where_trying_is_the_only_way_to_learn(name: str) -> None:
    """Drafts that cannot be compared without being made."""
    scene = BY_NAME[name]
    control = DraftControl(cost=scene.cost if scene.prior else None, guess=0.8)
    assert simulated.run(scene, control, 2500, 3, learns_for_free=False).ratio <= 1.03


@pytest.mark.parametrize(
    "name",
    [
        "CPU, 83 % accepted",
        "memory-bound, 80 % accepted",
        "memory-bound, 30 % accepted",
        "memory-bound, copying",
        "CPU, copying, pace known",
        "memory-bound, draft model 1/30, 70 %",
    ],
)
def test_it_finds_most_of_the_gain_where_there_is_one(name: str) -> None:
    scene = BY_NAME[name]
    seed = 4
    ours = simulated.simulate(scene, simulated.controlled(scene), 2500, seed).ratio
    best = min(simulated.simulate(scene, DraftControl(fixed=shape), 2500, seed).ratio for shape in CHAINS)
    assert 1 / ours >= 1 + 0.6 * (1 / best - 1)
    assert ours < 0.9


@settings(max_examples=25)
@given(
    st.floats(0.0, 1.5),
    st.floats(0.0, 0.99),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_on_any_machine_with_any_drafts(each: float, chance: float, width: int, known: bool, seed: int) -> None:
    """Rows that cost next to nothing up to half as much again as a step of their own."""
    scene = simulated.Scene("any", lambda rows: 1 + each * (rows - 1), lambda step: (4, chance), width=width)
    control = DraftControl(cost=scene.cost if known else None)
    assert simulated.run(scene, control, 1500, seed).ratio <= 1.03


@settings(max_examples=25)
@given(
    st.floats(0.0, 1.0),
    st.floats(0.0, 0.99),
    st.floats(0.01, 1.0),
    st.integers(5, 500),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_with_any_model_that_drafts(
    each: float, chance: float, drafting: float, answer: int, known: bool, seed: int
) -> None:
    """It has to read every prompt, which for short answers is never worth it."""
    scene = simulated.Scene(
        "any",
        lambda rows: 1 + each * (rows - 1),
        lambda step: (0, chance),
        drafting=drafting,
        answer=answer,
        prior=known,
    )
    assert simulated.simulate(scene, simulated.controlled(scene), 1500, seed).ratio <= 1.03


def test_before_it_knows_what_a_step_costs_nothing_is_drafted() -> None:
    control = DraftControl()
    for _ in range(3):
        assert control.choose(8, 16) is None
        control.observe(0, 1, 0.01)
    assert control.choose(8, 16) is not None


def test_a_fixed_shape_is_taken_as_far_as_there_is_room() -> None:
    control = DraftControl(fixed=Shape(4))
    assert [control.choose(0, most) for most in (9, 4, 2, 0)] == [Shape(4), Shape(4), Shape(2), None]


def test_trees_are_for_single_texts() -> None:
    control = DraftControl([Shape(2, 2)])
    for width in (1, 3):
        for _ in range(4):
            control.observe(0, 1, 0.01, width)
    for _ in range(20):
        control.note(4, 2, 2, 2)
    assert control.choose(4, 8, 1) == Shape(2, 2)
    assert control.choose(4, 8, 3) is None
