from __future__ import annotations

import pytest
import torch
from small_models import tiny

from fathom.errors import LimitError, SpecError
from fathom.recursive.config import PRESETS, SIZES, Shape, settings
from fathom.recursive.model import Latent, RecursiveModel

BOARD = Shape(length=9, symbols_in=4, symbols_out=3)
GRAPH = Shape(length=5, symbols_in=2, symbols_out=3, fields=5)


def build(preset: str, shape: Shape = BOARD, **overrides: object) -> RecursiveModel:
    torch.manual_seed(0)
    return RecursiveModel(tiny(preset, **overrides)[0], shape)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [BOARD, GRAPH])
@pytest.mark.parametrize("mixing", ["attention", "sequence"])
def test_every_preset_takes_steps_of_unit_scale_and_decodes(preset: str, shape: Shape, mixing: str) -> None:
    model = build(preset, shape, mixing=mixing)
    x = torch.randint(2, (4, shape.length) if shape.fields == 1 else (4, shape.length, shape.fields))
    state = model.start(4)
    for _ in range(6):
        state = model.supervision_step(state, model.encode(x), model.noise(4)).state
    assert model.decode(state.h).shape == (4, shape.length, shape.symbols_out)
    assert 0.3 < state.h.pow(2).mean() < 4
    assert all(logit.shape == (4,) for logit in model.judge(state.h, model.encode(x)))


def test_parameters_of_sizes_grow_and_tiny_is_below_a_million() -> None:
    shape = Shape(64, 2, 2)
    counts = [sum(p.numel() for p in RecursiveModel(settings("gram", size)[0], shape).parameters()) for size in SIZES]
    assert counts == sorted(counts)
    assert counts[1] < 1_000_000


def test_a_shared_network_is_one() -> None:
    assert build("trm").low is None
    assert build("hrm").low is not None


def test_without_noise_a_step_is_deterministic_and_with_noise_it_follows_it() -> None:
    model = build("gram")
    x = torch.randint(3, (2, 9))
    e, start = model.encode(x), model.start(2)
    calm = model.supervision_step(start, e).state.h
    torch.testing.assert_close(calm, model.supervision_step(start, e).state.h, rtol=0, atol=0)
    noise = model.noise(2)
    moved = model.supervision_step(start, e, noise).state.h
    torch.testing.assert_close(moved, model.supervision_step(start, e, noise).state.h, rtol=0, atol=0)
    assert (moved - calm).abs().mean() > 0.1


def test_the_prior_starts_at_the_stated_sigma() -> None:
    model = build("gram")
    prior = model.supervision_step(model.start(8), model.encode(torch.randint(3, (8, 9)))).prior
    assert prior is not None
    assert 0.4 < prior.log_sigma.exp().mean().item() < 0.6


@pytest.mark.parametrize("early", ["deterministic", "prior", "posterior"])
def test_only_a_posterior_in_early_transitions_lets_the_answer_through(early: str) -> None:
    """The leak that made the prior useless: the proposal, which no KL covers, must not depend on y."""
    model = build("gram", transitions=3, early=early)
    e, start, noise = model.encode(torch.randint(3, (1, 9))), model.start(1), model.noise(1)
    answers = [model.encode_answer(torch.full((1, 9), symbol)) for symbol in (0, 2)]
    first, second = (model.supervision_step(start, e, noise, answer).proposal for answer in answers)
    assert torch.equal(first, second) == (early != "posterior")


@pytest.mark.parametrize(("gradient", "reaches"), [("transition", False), ("all", True)])
def test_gradient_through_the_last_transition_alone_or_all(gradient: str, reaches: bool) -> None:
    model = build("trm", transitions=2, gradient=gradient)
    h, low = (torch.randn(1, *model.h0.shape, requires_grad=True) for _ in range(2))
    model.supervision_step(Latent(h, low), model.encode(torch.zeros(1, 9, dtype=torch.long))).state.h.sum().backward()
    assert (h.grad is not None) == reaches


def test_a_trained_trm_with_noise_is_a_ptrm_and_the_first_step_may_be_hotter() -> None:
    trm = build("trm")
    ptrm = trm.with_settings(noise=0.6)
    e, start = trm.encode(torch.randint(3, (2, 9))), trm.start(2)
    assert trm.noise(2) is None
    assert torch.equal(ptrm.supervision_step(start, e).state.h, trm.supervision_step(start, e).state.h)
    moved = ptrm.supervision_step(start, e, ptrm.noise(2)).state.h
    assert (moved - trm.supervision_step(start, e).state.h).abs().mean() > 0.01
    hot = trm.with_settings(first_temperature=1.5)
    assert [hot.temperature(depth) for depth in (0, 1, 9)] == [1.5, 1.0, 1.0]


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(SpecError, match="Did you mean 'gram'"):
        settings("grma")
    with pytest.raises(SpecError, match="learning_rate"):
        settings("gram", learning_rat=1)
    with pytest.raises(LimitError, match="heads"):
        settings("gram", mixing="attention", width=20, heads=4)
