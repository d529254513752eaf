"""Three-colouring of random graphs, with colours named in order of first appearance (GRAM, arXiv 2605.19376, section
4).

One position a vertex: its input symbols are its row of the adjacency matrix, so that the model mixes vertices and
nothing else. Graphs are Erdős–Rényi with edge probability one half, kept where they are 3-colourable.
"""

from __future__ import annotations

import re
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from fathom.errors import InputError
from fathom.recursive.config import Shape
from fathom.recursive.tasks.base import SplitName
from fathom.recursive.tasks.enumerated import EnumeratedTask

__all__ = ["Coloring"]

SIZES: dict[SplitName, int] = {"test": 500, "validation": 200, "train": 20_000}


class Coloring(EnumeratedTask):
    """Graphs of n vertices. Input (n, n) is the adjacency matrix; an answer names the colour, 0 to 2, of each
    vertex.
    """

    def __init__(self, n: int = 8, edge_probability: float = 0.5) -> None:
        self.name, self.n, self.edge_probability = f"coloring-{n}", n, edge_probability
        self.shape = Shape(length=n, symbols_in=2, symbols_out=3, fields=n)
        # A clash is a matter of two vertices: the heads compare a vertex with its own input alone, and strangers would
        # only confuse them.
        self.defaults = {
            "mixing": "attention",
            "beta": 1.0,
            "on_policy_share": 0.9,
            "learning_rate": 2e-3,
            "strangers": 0.0,
        }
        self.paper = {"beta": 0.45 if n == 10 else 0.5, "strangers": 0.0}
        self.answers = _canonical_colorings(n)
        self.pairs = torch.tensor(list(combinations(range(n), 2)))
        first, second = self.pairs.unbind(1)
        self._same_color = (self.answers[:, first] == self.answers[:, second]).float()

    def allowed(self, x: Tensor) -> Tensor:
        first, second = self.pairs.to(x.device).unbind(1)
        return x[:, first, second].float() @ self._same_color.to(x.device).T == 0

    def _splits(self) -> dict[SplitName, Tensor]:
        generator = torch.Generator().manual_seed(0)
        total = sum(SIZES.values())
        edges = torch.rand(4 * total, len(self.pairs), generator=generator) < self.edge_probability
        edges = torch.unique(edges, dim=0)
        edges = edges[torch.randperm(len(edges), generator=generator)]
        x = torch.zeros(len(edges), self.n, self.n, dtype=torch.long)
        first, second = self.pairs.unbind(1)
        x[:, first, second] = x[:, second, first] = edges.long()
        x = x[self.count(x) > 0][:total]
        test, held_out = SIZES["test"], SIZES["test"] + SIZES["validation"]
        return {"test": x[:test], "validation": x[test:held_out], "train": x[held_out:]}

    def valid(self, x: Tensor, answer: Tensor) -> Tensor:
        clash = (answer.unsqueeze(1) == answer.unsqueeze(2)) & (x == 1)
        highest_before = F.pad(answer.cummax(-1).values[:, :-1], (1, 0), value=-1)
        return ~clash.flatten(1).any(-1) & (answer <= highest_before + 1).all(-1)

    def parse(self, text: str) -> Tensor:
        x = torch.zeros(self.n, self.n, dtype=torch.long)
        for edge in text.replace(",", " ").split():
            match = re.fullmatch(r"(\d{1,6})-(\d{1,6})", edge)
            if match is None:
                raise InputError(
                    f"{edge[:40]!r} is no edge; a graph is written as 0-1 0-3 2-5, with vertices from 0 to {self.n - 1}"
                )
            a, b = int(match[1]), int(match[2])
            if max(a, b) >= self.n:
                raise InputError(
                    f"edge {edge} names vertex {max(a, b)}, but {self.name} has vertices 0 to {self.n - 1}"
                )
            if a == b:
                raise InputError(
                    f"the graph contradicts itself: edge {edge} joins a vertex with itself, which no colouring allows"
                )
            x[a, b] = x[b, a] = 1
        return x

    def render(self, x: Tensor, answer: Tensor | None = None) -> str:
        if answer is not None:
            return " ".join(f"{vertex}:{int(color)}" for vertex, color in enumerate(answer))
        return " ".join(f"{a}-{b}" for a, b in self.pairs.tolist() if x[a, b])


def _canonical_colorings(n: int) -> Tensor:
    """All colourings of n vertices by three colours, named in order of first appearance: (A, n)."""
    found: list[tuple[int, ...]] = [(0,)]
    for _ in range(n - 1):
        found = [(*colors, color) for colors in found for color in range(min(2, max(colors) + 1) + 1)]
    return torch.tensor(found)
