"""The floating-point operations of a supervision step, derived from the weights: two for each weight and each place
that it is applied to. Norms, gates and noise are left out; they are a few percent.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from fathom.recursive.layers import Attention, Block
from fathom.recursive.model import RecursiveModel

__all__ = ["step_flops"]


def step_flops(model: RecursiveModel) -> float:
    """Of one supervision step of one trajectory, its answer decoded and judged."""
    config, places = model.config, len(model.h0)
    high = _blocks(model.high, places)
    refined = 0.0
    if config.two_level:
        refined = config.inner * _blocks(model.high if model.low is None else model.low, places)
    drawn = 2.0 * _weights(model.prior) * places * model.draws if config.stochastic else 0.0
    judged = _blocks([model.heads.block], places) + 2.0 * (
        _weights(model.heads.compare) * places + _weights(model.heads.out)
    )
    decoded = 2.0 * _weights(model.out) * model.shape.length
    return config.transitions * (refined + high) + drawn + judged + decoded


def _blocks(blocks: Iterable[nn.Module], places: int) -> float:
    return sum(_block(block, places) for block in blocks if isinstance(block, Block))


def _block(block: Block, places: int) -> float:
    """A mixer along the sequence is applied to every feature, everything else to every place."""
    width = block.feed.up.in_features
    fed = 2.0 * _weights(block.feed) * places
    if isinstance(block.mix, Attention):
        return fed + 2.0 * _weights(block.mix) * places + 4.0 * places * places * width
    return fed + 2.0 * _weights(block.mix) * width


def _weights(module: nn.Module) -> int:
    """Entries of its weight matrices."""
    return sum(p.numel() for p in module.parameters() if p.dim() == 2)
