"""The blocks that every recursive model is made of: mixing along the sequence, then along the features, each followed
by RMSNorm.

Post-norm keeps the latent state at unit scale however often it is fed back (TRM, arXiv 2510.04871, section 4). Shapes
within blocks are (L, B, D): positions come before the batch, so that mixing them is one matrix product for the whole
batch instead of a small one for each trajectory.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.recursive.config import ModelConfig

__all__ = ["Block", "Linear", "Network", "SwiGLU", "rms_norm"]


EPSILON = 1e-5


def rms_norm(x: Tensor) -> Tensor:
    """Scale each position to unit root mean square; without learned weights, as in TRM."""
    return F.rms_norm(x, (x.shape[-1],), eps=EPSILON)


def _residual(x: Tensor, change: Tensor) -> Tensor:
    """rms_norm(x + change); in the place of ``change`` where no gradient will ask for it."""
    if torch.is_grad_enabled():
        return rms_norm(x + change)
    change += x
    square = torch.linalg.vector_norm(change, dim=-1, keepdim=True).square_()
    return change.mul_(square.div_(x.shape[-1]).add_(EPSILON).rsqrt_())


class Linear(nn.Linear):
    """A linear map whose weights start at standard deviation 1/√fan-in, truncated at two of them."""

    def __init__(self, fan_in: int, fan_out: int, bias: bool = False) -> None:
        super().__init__(fan_in, fan_out, bias=bias)

    def reset_parameters(self) -> None:
        std = self.in_features**-0.5
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class SwiGLU(nn.Module):
    """silu(gate) * up, projected down (arXiv 2002.05202), over the last axis."""

    def __init__(self, size: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.up = Linear(size, 2 * hidden)
        self.down = Linear(hidden, out or size)

    def forward(self, x: Tensor) -> Tensor:
        # Two products of half the width: the halves of one would not be contiguous, and twice as slow to multiply.
        gate, up = self.up.weight.chunk(2)
        return self.down(_gated(F.linear(x, gate), F.linear(x, up)))  # type: ignore[no-any-return]


def _gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up; in place where no gradient will ask for them."""
    if torch.is_grad_enabled():
        return F.silu(gate) * up
    return F.silu(gate, inplace=True).mul_(up)


class SequenceMixer(nn.Module):
    """A SwiGLU along the sequence axis, the same for every feature: TRM's stand-in for attention on short, fixed
    boards.
    """

    def __init__(self, length: int, hidden: int) -> None:
        super().__init__()
        self.swiglu = SwiGLU(length, hidden)

    def forward(self, x: Tensor) -> Tensor:
        columns = x.flatten(1)
        gate, up = self.swiglu.up.weight.chunk(2)
        return (self.swiglu.down.weight @ _gated(gate @ columns, up @ columns)).view(x.shape)


class Attention(nn.Module):
    """Bidirectional multi-head attention, with rotary positions (arXiv 2104.09864) where ``rope`` holds them."""

    rope: Tensor | None

    def __init__(self, width: int, heads: int, length: int, rotary: bool) -> None:
        super().__init__()
        self.heads = heads
        self.project = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.register_buffer("rope", _rotary(length, width // heads) if rotary else None, persistent=False)

    def turn(self) -> None:
        """Compute the rotary positions anew: a model that was built without memory has none."""
        if self.rope is not None:
            self.rope = _rotary(*self.rope.shape[1:]).to(self.project.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        length, batch, width = x.shape
        heads = self.project(x.flatten(0, 1)).view(length, batch, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 1, 3, 0, 4)
        if self.rope is not None:
            query, key = _rotate(query, self.rope), _rotate(key, self.rope)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.permute(2, 0, 1, 3).reshape(length, batch, width))  # type: ignore[no-any-return]


def _rotary(length: int, size: int) -> Tensor:
    """cos and sin of the rotation angles, (2, length, size)."""
    frequencies = torch.exp(torch.arange(0, size, 2) * (-math.log(10_000.0) / size))
    angles = torch.outer(torch.arange(length).float(), frequencies).repeat(1, 2)
    return torch.stack((angles.cos(), angles.sin()))


def _rotate(x: Tensor, rope: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    cos, sin = rope.to(x.dtype).unbind()
    return x * cos + torch.cat((-second, first), -1) * sin


class Block(nn.Module):
    """Mix along the sequence, then along the features; after each, add and normalise."""

    def __init__(self, config: ModelConfig, length: int) -> None:
        super().__init__()
        self.mix: nn.Module
        if config.mixing == "sequence":
            self.mix = SequenceMixer(length, config.mixer)
        else:
            self.mix = Attention(config.width, config.heads, length, rotary=config.positions == "rope")
        self.feed = SwiGLU(config.width, config.ffn)

    def forward(self, x: Tensor) -> Tensor:
        x = _residual(x, self.mix(x))
        return _residual(x, self.feed(x))


class Network(nn.Sequential):
    """f_L or f_H: ``layers`` blocks, on (B, L, D)."""

    def __init__(self, config: ModelConfig, length: int) -> None:
        super().__init__(*(Block(config, length) for _ in range(config.layers)))

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1).contiguous()
        for block in self:
            x = block(x)
        return x.transpose(0, 1)
