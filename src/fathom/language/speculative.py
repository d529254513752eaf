"""Speculative sampling: tokens that were guessed cheaply are verified by the target in one pass, and what comes out
follows the target's law exactly (arXiv 2211.17192, 2302.01318).

A drafted token x is accepted with probability min(1, p(x) / q(x)), and at the first rejection the token is drawn from
the normalised residual max(0, p - q). Several candidates for one place are tried one after another, each against the
residual that those before it left (multi-round scheme of SpecInfer, arXiv 2305.09781). For a drafter that does not draw
but knows, q is one-hot: then accepting and redrawing is the same as drawing from the target and comparing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fathom.language.engines.base import Sampling
from fathom.language.engines.sampling import complete

__all__ = ["Draft", "Laws", "Verdict", "accept", "draw", "laws"]

Laws = NDArray[np.float64]
"""Probabilities over the vocabulary, in the last axis."""

Ids = NDArray[np.int64]
ROOT = -1


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens that may come next, as a tree: ``parents[i]`` is the node before node i, or -1 for a first token.

    Parents stand before their children. ``laws[i]`` is what token i was drawn from, given its elder siblings; None
    where tokens were not drawn. ``evidence`` counts the tokens by which the drafter found its place, the more the
    better.
    """

    tokens: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    laws: Laws | None = None
    evidence: int = 0

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def chain(cls, tokens: Sequence[int], *, laws: Laws | None = None, evidence: int = 0) -> Draft:
        """One candidate at each place."""
        return cls(tuple(tokens), tuple(range(-1, len(tokens) - 1)), laws, evidence)

    @property
    def is_chain(self) -> bool:
        return self.parents == tuple(range(-1, len(self.tokens) - 1))

    @property
    def depth(self) -> int:
        """Tokens along its longest way."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 + (depths[parent] if parent >= 0 else 0))
        return max(depths, default=0)

    def path(self, tokens: Sequence[int]) -> list[int]:
        """The nodes that ``tokens`` run along, from the root on, as far as they do."""
        at, nodes = ROOT, []
        for token in tokens:
            found = [i for i, parent in enumerate(self.parents) if parent == at and self.tokens[i] == token]
            if not found:
                break
            at = found[0]
            nodes.append(at)
        return nodes


@dataclass(frozen=True, slots=True)
class Verdict:
    """``accepted`` marks the drafted nodes that stand, shape (batch, nodes); ``token`` comes after them, (batch,)."""

    accepted: NDArray[np.bool_]
    token: Ids


def laws(logits: NDArray[np.float32] | Laws, sampling: Sampling) -> Laws:
    """What is drawn from, by logits of shape (…, vocabulary).

    As llama.cpp does it: top-k, top-p and min-p by the law at temperature 1, then temperature. At temperature 0 all
    weight is on the likeliest token, of several on the first.
    """
    sampling = complete(sampling)
    size = logits.shape[-1]
    result = np.zeros(logits.shape)
    if not sampling.temperature:
        np.put_along_axis(result, logits.argmax(axis=-1, keepdims=True), 1.0, axis=-1)
        return result
    if sampling.top_k and sampling.top_k < size:
        best = np.argpartition(logits, -sampling.top_k, axis=-1)[..., -sampling.top_k :]
    else:
        best = np.broadcast_to(np.arange(size), logits.shape)
    values = np.take_along_axis(logits, best, axis=-1).astype(np.float64)
    order = np.argsort(-values, axis=-1, kind="stable")
    values, best = np.take_along_axis(values, order, axis=-1), np.take_along_axis(best, order, axis=-1)
    values -= values[..., :1]
    weights = np.exp(values)
    weights /= weights.sum(axis=-1, keepdims=True)
    kept = weights >= (sampling.min_p or 0.0) * weights[..., :1]
    if sampling.top_p is not None and sampling.top_p < 1:
        kept &= weights.cumsum(axis=-1) - weights < max(sampling.top_p, 1e-12)
    drawn = np.where(kept, np.exp(values / sampling.temperature), 0.0)
    np.put_along_axis(result, best, drawn / drawn.sum(axis=-1, keepdims=True), axis=-1)
    return result


def draw(law: Laws, uniforms: Laws) -> Ids:
    """A token of each law, shape (batch, vocabulary), by a uniform number of [0, 1) each: inversion."""
    up_to = law.cumsum(axis=-1)
    whole = up_to[..., -1:]
    found: Ids = (up_to <= uniforms[..., None] * whole).sum(axis=-1)
    last = (up_to < whole).sum(axis=-1)  # should rounding lead beyond the last token that has any weight
    chosen: Ids = np.minimum(found, last).astype(np.int64)
    return chosen


def accept(target: Laws, tokens: Ids, parents: Sequence[int], drafted: Laws | None, uniforms: Laws) -> Verdict:
    """Verify drafts of one shape for a batch of texts.

    ``target`` has the target's law after the text and after each node, shape (batch, 1 + nodes, vocabulary);
    ``tokens`` the drafted tokens, (batch, nodes); ``drafted`` what each was drawn from, (batch, nodes, vocabulary), or
    None for one-hot laws; ``uniforms`` independent numbers of [0, 1), (batch, nodes + 1).
    """
    batch, nodes = tokens.shape
    at = np.full(batch, ROOT)
    law = target[:, 0].copy()
    accepted = np.zeros((batch, nodes), dtype=np.bool_)
    for node, parent in enumerate(parents):
        here = np.flatnonzero(at == parent)
        proposed = tokens[here, node]
        weight = 1.0 if drafted is None else drafted[here, node, proposed]
        stands = uniforms[here, node] * weight < law[here, proposed]
        yes, no = here[stands], here[~stands]
        accepted[yes, node] = True
        at[yes] = node
        law[yes] = target[yes, node + 1]
        law[no] = _residual(law[no], tokens[no, node], None if drafted is None else drafted[no, node])
    return Verdict(accepted, draw(law, uniforms[:, nodes]))


def _residual(law: Laws, token: Ids, drafted: Laws | None) -> Laws:
    """The law of what a rejected candidate leaves; by rounding nothing may be left, and then it is the law itself."""
    rest = law.copy()
    if drafted is None:
        rest[np.arange(len(rest)), token] = 0.0
    else:
        rest = np.maximum(rest - drafted, 0.0)
    whole = rest.sum(axis=-1, keepdims=True)
    return np.where(whole > 0, rest / np.where(whole > 0, whole, 1.0), law)
