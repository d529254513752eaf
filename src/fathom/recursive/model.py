"""The one recursive cell: encode once, then transition, supervision step, decode, as often as one likes.

With a learned prior it is GRAM (arXiv 2605.19376), without it TRM or HRM, flat a looped Transformer; with Gaussian
noise at inference PTRM. Noise is an argument everywhere, never drawn inside: whoever rolls a trajectory out owns its
randomness, which is what makes results independent of batching. Shapes: B trajectories, L positions of the board, S =
registers + L, D features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.recursive.config import ModelConfig, Shape
from fathom.recursive.layers import Attention, Block, Linear, Network, SwiGLU

__all__ = ["Gaussian", "Latent", "RecursiveModel", "Step"]

LOG_SIGMA = (-5.0, 1.5)
"""Bounds of log σ: outside of them a KL term of one feature can outweigh the whole board."""


class Latent(NamedTuple):
    """The state that supervision steps carry: h, which is decoded, and l, the scratch beside it; each (B, S, D)."""

    h: Tensor
    l: Tensor  # noqa: E741 - the papers' name

    def detach(self) -> Latent:
        return Latent(self.h.detach(), self.l.detach())


class Gaussian(NamedTuple):
    """A diagonal normal distribution over the guidance ε: mean and log standard deviation, each (B, S, D)."""

    mean: Tensor
    log_sigma: Tensor

    def sample(self, noise: Tensor | None) -> Tensor:
        """mean + σ · noise; the mean where ``noise`` is None."""
        return self.mean if noise is None else self.mean + self.log_sigma.exp() * noise

    def detach(self) -> Gaussian:
        return Gaussian(self.mean.detach(), self.log_sigma.detach())


class Step(NamedTuple):
    """What a supervision step yields: the state after it and, of its last transition, the proposal u and both
    distributions.
    """

    state: Latent
    proposal: Tensor
    prior: Gaussian | None = None
    posterior: Gaussian | None = None


class _Guidance(nn.Module):
    """A network that reads features and names a Gaussian over ε; its σ starts at ``start_sigma``."""

    def __init__(self, config: ModelConfig, inputs: int) -> None:
        super().__init__()
        self.net = SwiGLU(inputs, config.width, 2 * config.width)
        self.start = math.log(config.start_sigma)
        with torch.no_grad():
            self.net.down.weight.mul_(0.1)

    def forward(self, features: Tensor) -> Gaussian:
        mean, log_sigma = self.net(features).float().chunk(2, -1)
        return Gaussian(mean, (self.start + log_sigma).clamp(*LOG_SIGMA))


class _Heads(nn.Module):
    """Halt and value (LPRM) logits from a state and its input.

    One block reads h, pooled over positions by mean and maximum. Beside it each position is compared with its input: an
    answer that leaves out what was given may be flawless otherwise.
    """

    def __init__(self, config: ModelConfig, length: int) -> None:
        super().__init__()
        self.block = Block(config, length)
        self.compare = SwiGLU(2 * config.width, config.width, config.width)
        self.out = Linear(3 * config.width, 2, bias=True)
        nn.init.zeros_(self.out.weight)

    def forward(self, h: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        features, compared = self.block(h.transpose(0, 1).contiguous()), self.compare(torch.cat((h, e), -1))
        pooled = torch.cat((features.mean(0), features.amax(0), compared.amax(1)), -1)
        # Row by row: a matrix product with so few columns is rounded in other ways for other sizes of the batch.
        halt, value = ((pooled[:, None] * self.out.weight).sum(-1) + self.out.bias).float().unbind(-1)
        return halt, value


class RecursiveModel(nn.Module):
    """The recursive cell for one task's shape. ``start`` and ``encode`` once, then ``supervision_step`` and ``decode``
    at will.
    """

    h0: Tensor
    l0: Tensor

    def __init__(self, config: ModelConfig, shape: Shape, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config, self.shape = config, shape
        length, width = config.registers + shape.length, config.width
        self.embedding = nn.Embedding(shape.fields * shape.symbols_in, width)
        if config.scale_embedding:
            nn.init.normal_(self.embedding.weight, std=width**-0.5)
        learned = config.positions == "learned"
        self.position = nn.Parameter(torch.randn(length, width)) if learned else None
        self.low = Network(config, length) if config.two_level and not config.shared else None
        self.high = Network(config, length)
        self.out = Linear(width, shape.symbols_out, bias=True)
        self.heads = _Heads(config, length)
        if config.stochastic:
            self.prior = _Guidance(config, width)
            self.posterior = _Guidance(config, 2 * width)
            self.answer_embedding = nn.Embedding(shape.symbols_out, width)
        # z0 is one fixed sample, part of the model: a buffer, so that it is saved and never trained.
        self.register_buffer("h0", torch.randn(length, width, generator=generator))
        self.register_buffer("l0", torch.randn(length, width, generator=generator))

    @classmethod
    def outline(cls, config: ModelConfig, shape: Shape) -> RecursiveModel:
        """A model with no memory behind its weights, which only tells their names and shapes, until :meth:`fill`."""
        with torch.device("meta"):
            return cls(config, shape)

    def fill(self, weights: Mapping[str, Tensor]) -> None:
        """Take ``weights``, which have the names and shapes of ``state_dict``, for its own: nothing is copied."""
        self.load_state_dict(weights, assign=True)
        for module in self.modules():
            if isinstance(module, Attention):
                module.turn()

    @property
    def draws(self) -> int:
        """How many noise tensors a supervision step takes: 0 for a deterministic model."""
        if self.config.stochastic:
            return 1 if self.config.early == "deterministic" else self.config.transitions
        return 1 if self.config.noise > 0 else 0

    @property
    def first_step_is_shared(self) -> bool:
        """Whether the first steps of a problem's trajectories differ in nothing but the last transition's ε."""
        config = self.config
        return config.stochastic and config.noise == 0 and (config.transitions == 1 or config.early == "deterministic")

    def noise(self, batch: int, generator: torch.Generator | None = None) -> Tensor | None:
        """The noise of one supervision step of ``batch`` trajectories, (draws, B, S, D), or None for a deterministic
        model.
        """
        if not self.draws:
            return None
        return torch.randn(self.draws, batch, *self.h0.shape, generator=generator, device=self.h0.device)

    def with_settings(self, **changes: Any) -> RecursiveModel:
        """The same weights under other settings of inference: ``noise=0.6`` makes a trained TRM a PTRM."""
        other = RecursiveModel(replace(self.config, **changes), self.shape).to(self.h0.device)
        other.load_state_dict(self.state_dict())
        return other.requires_grad_(False).eval()

    def temperature(self, depth: int) -> float:
        """What a roll-out's noise is multiplied by, ``depth`` steps having been taken."""
        return self.config.first_temperature if depth == 0 else 1.0

    def encode(self, x: Tensor) -> Tensor:
        """e_x, (B, S, D), of inputs (B, L), or (B, L, fields) where a position holds several symbols."""
        if self.shape.fields > 1:
            offsets = torch.arange(self.shape.fields, device=x.device) * self.shape.symbols_in
            e = self.embedding(x + offsets).sum(-2) / math.sqrt(self.shape.fields)
        else:
            e = self.embedding(x)
        if self.config.scale_embedding:
            e = e * math.sqrt(self.config.width)
        e = F.pad(e, (0, 0, self.config.registers, 0))
        return e if self.position is None else e + self.position

    def encode_answer(self, y: Tensor) -> Tensor:
        """What the posterior sees of an answer (B, L): (B, S, D)."""
        return F.pad(self.answer_embedding(y), (0, 0, self.config.registers, 0))

    def start(self, batch: int) -> Latent:
        """z0 for ``batch`` trajectories."""
        return Latent(self.h0.expand(batch, -1, -1), self.l0.expand(batch, -1, -1))

    def supervision_step(
        self, state: Latent, e: Tensor, noise: Tensor | None = None, answer: Tensor | None = None
    ) -> Step:
        """T transitions from ``state``. ``noise`` is as from :meth:`noise`, or None for the mean.

        With ``answer`` (from :meth:`encode_answer`) the last transition's ε comes from the posterior, as in training.
        Gradients flow as ``config.gradient`` says.
        """
        config = self.config
        if config.noise > 0 and noise is not None:
            state = Latent(state.h + (config.noise * noise[0]).to(state.h.dtype), state.l)
        for t in range(config.transitions - 1):
            with nullcontext() if config.gradient == "all" else torch.no_grad():
                state = self._early_transition(state, e, None if noise is None else noise[t % len(noise)], answer)
        proposal, low = self._propose(state, e)
        if not config.stochastic:
            return Step(Latent(proposal, low), proposal)
        prior = self.prior(proposal)
        posterior = None if answer is None else self.posterior(torch.cat((proposal, answer), -1))
        epsilon = (prior if posterior is None else posterior).sample(None if noise is None else noise[-1])
        return Step(Latent(proposal + epsilon.to(proposal.dtype), low), proposal, prior, posterior)

    def _early_transition(self, state: Latent, e: Tensor, noise: Tensor | None, answer: Tensor | None) -> Latent:
        """A transition before a step's last. A posterior here leaks the answer past the KL; kept to show that it
        does.
        """
        proposal, low = self._propose(state, e)
        if not self.config.stochastic or self.config.early == "deterministic":
            return Latent(proposal, low)
        if self.config.early == "posterior" and answer is not None:
            guidance = self.posterior(torch.cat((proposal, answer), -1))
        else:
            guidance = self.prior(proposal)
        return Latent(proposal + guidance.sample(noise).to(proposal.dtype), low)

    def _propose(self, state: Latent, e: Tensor) -> tuple[Tensor, Tensor]:
        """u = f_H(h + l) after K refinements of l, and that l."""
        h, low = state
        if not self.config.two_level:
            return self.high(h + e), low
        refine = self.high if self.low is None else self.low
        injected = h + e
        with _without_gradient(self.config.gradient == "last-two"):
            for _ in range(self.config.inner - 1):
                low = refine(low + injected)
        low = refine(low + injected)
        return self.high(h + low), low

    def decode(self, h: Tensor) -> Tensor:
        """Logits of the answer, (B, L, symbols_out), from h."""
        return self.out(h[:, self.config.registers :]).float()  # type: ignore[no-any-return]

    def judge(self, h: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, (B,) each: that the answer now decoded from ``h`` is right (halt), and that the trajectory will end
        right (value).
        """
        halt, value = self.heads(h, e)
        return halt, value


@contextmanager
def _without_gradient(off: bool) -> Iterator[None]:
    with torch.no_grad() if off else nullcontext():
        yield
