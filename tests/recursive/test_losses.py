from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from fathom.recursive import losses
from fathom.recursive.model import Gaussian


def gaussian(seed: int, shape: tuple[int, ...] = (3, 5, 4)) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    return Gaussian(torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_kl_is_the_textbook_one_and_zero_only_to_itself(first: int, second: int) -> None:
    q, p = gaussian(first), gaussian(second)
    expected = kl_divergence(Normal(q.mean, q.log_sigma.exp()), Normal(p.mean, p.log_sigma.exp()))
    torch.testing.assert_close(losses.kl_divergence(q, p), expected, rtol=1e-3, atol=1e-4)
    assert losses.kl_divergence(q, q).abs().max() < 1e-6
    assert first == second or losses.kl_divergence(q, p).sum() > 0


def test_balanced_kl_sums_features_and_averages_positions() -> None:
    q, p = gaussian(1), gaussian(2)
    expected = losses.kl_divergence(q, p).sum(-1).mean(-1)
    torch.testing.assert_close(losses.balanced_kl(q, p, 0.8), expected)


def test_balance_shares_the_gradient_between_prior_and_posterior() -> None:
    def gradients(balance: float) -> tuple[torch.Tensor, torch.Tensor]:
        q, p = (Gaussian(g.mean.requires_grad_(), g.log_sigma) for g in (gaussian(1), gaussian(2)))
        losses.balanced_kl(q, p, balance).sum().backward()
        return q.mean.grad, p.mean.grad

    to_posterior, to_prior = gradients(0.5)
    uneven_posterior, uneven_prior = gradients(0.8)
    torch.testing.assert_close(uneven_prior, to_prior * 1.6)
    torch.testing.assert_close(uneven_posterior, to_posterior * 0.4)


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=6))
def test_stable_max_is_a_distribution_that_keeps_the_order(values: list[float]) -> None:
    logits = torch.tensor([values])
    log_probability = losses.stable_max_log(logits)
    assert abs(float(log_probability.exp().sum()) - 1) < 1e-4
    assert log_probability[logits == logits.max()].max() == log_probability.max()


def test_reconstruction_averages_positions_for_each_row() -> None:
    logits, y = torch.randn(2, 5, 3), torch.randint(3, (2, 5))
    expected = [torch.nn.functional.cross_entropy(row, target) for row, target in zip(logits, y, strict=True)]
    torch.testing.assert_close(losses.reconstruction_loss(logits, y, "cross-entropy"), torch.stack(expected))


def test_value_loss_is_least_at_the_outcome() -> None:
    confident, wrong = torch.tensor([8.0]), torch.tensor([-8.0])
    assert losses.value_loss(confident, torch.tensor([True])) < 1e-3 < losses.value_loss(wrong, torch.tensor([True]))
