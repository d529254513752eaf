"""The training losses, each with its reduction spelled out: what is summed and what is averaged decides whether GRAM
learns.

A KL summed over the features and averaged over positions weighs against a cross-entropy averaged over positions as the
evidence bound has it; averaged over the features as well it is D times too weak, and the posterior hides the answer in
ε.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fathom.recursive.config import Reconstruction
from fathom.recursive.model import Gaussian

__all__ = ["balanced_kl", "halt_loss", "kl_divergence", "reconstruction_loss", "stable_max_log", "value_loss"]


def kl_divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q ‖ p) of diagonal normals, for every position and feature, in nats: the shape of ``q.mean``."""
    squared = torch.exp(2 * q.log_sigma) + (q.mean - p.mean) ** 2
    return p.log_sigma - q.log_sigma + 0.5 * squared * torch.exp(-2 * p.log_sigma) - 0.5


def balanced_kl(posterior: Gaussian, prior: Gaussian, balance: float) -> Tensor:
    """KL(q ‖ p), (B,): summed over features, averaged over positions. ``balance`` of its gradient moves p, the rest q.

    KL balancing of DreamerV2 (arXiv 2010.02193): the prior learns faster than the posterior is held back.
    """
    toward_posterior = kl_divergence(posterior.detach(), prior)
    toward_prior = kl_divergence(posterior, prior.detach())
    return (balance * toward_posterior + (1 - balance) * toward_prior).sum(-1).mean(-1)


def stable_max_log(logits: Tensor) -> Tensor:
    """log of the stable-max over the last axis (arXiv 2501.04697): x + 1 for x ≥ 0, 1 / (1 - x) below, normalised."""
    x = logits.double()
    scores = torch.where(x < 0, 1 / (1 - x.clamp(max=0)), x + 1)
    return torch.log(scores / scores.sum(-1, keepdim=True)).float()


def reconstruction_loss(logits: Tensor, y: Tensor, kind: Reconstruction) -> Tensor:
    """Cross-entropy of ``logits`` (B, L, V) to ``y`` (B, L), (B,): averaged over positions."""
    log_probability = F.log_softmax(logits, -1) if kind == "cross-entropy" else stable_max_log(logits)
    return F.nll_loss(log_probability.transpose(1, 2), y, reduction="none").mean(-1)


def halt_loss(logit: Tensor, valid: Tensor) -> Tensor:
    """Binary cross-entropy, (B,), of "the answer decoded now is valid"."""
    return F.binary_cross_entropy_with_logits(logit, valid.float(), reduction="none")


def value_loss(logit: Tensor, outcome: Tensor) -> Tensor:
    """Binary cross-entropy, (B,), of "the trajectory's last answer will be valid" (GRAM's latent process reward model).

    GRAM regresses with the squared error, which has its least value at the same probability but next to no gradient
    where the head is sure and wrong. Measured, the two are alike (docs/recursive.md).
    """
    return F.binary_cross_entropy_with_logits(logit, outcome.float(), reduction="none")
