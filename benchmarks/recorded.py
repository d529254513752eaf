"""The embedded model's own recorded chains, played in virtual time: real answers and lengths, at a measured pace.

Two sweeps of the same questions hold what it said, one with all the reasoning that it wanted, one with none:

    fathom sweep embedded arithmetic:60 -o runs/arith --samples 16 --seed 2026
    fathom sweep embedded arithmetic:60 -o runs/arith0 --samples 16 --seed 2026 --depth 0

A run draws a question's recorded chains in an order of its own, none twice (the same wrong chain twice would look like
agreement), and so at most as many as there are; the greedy one is the recorded greedy one. What was not recorded is how
a chain that is cut would have concluded: with its own answer, with the share of it that was written as chance, else
with one of those without reasoning.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from simulated import GREEDY, Embedded

from fathom.answers import canonical
from fathom.lab.pool import Pool, load_all
from fathom.language.engines.base import Prompt
from fathom.language.engines.scripted import Latency
from fathom.language.model import LanguageModel

LATENCY = Latency(token=0.072, crowding=0.222)
"""As measured on two slow cores with nothing else to do: 14 tokens a second at width 1, 53 at 16. Reading is free."""
ALL = 999
"""The number of the greedy chain."""
Said = tuple[int, str | None]
"""Tokens and answer of a chain."""


class Recorded:
    """What the model said, by question. ``right[q]`` is the key of the right answer."""

    def __init__(self, whole: Path, bare: Path) -> None:
        (chains,), (direct,) = load_all(whole), load_all(bare)
        self.questions = chains.questions
        self.chains, self.greedy = _said(chains)
        drawn, greedy = _said(direct)
        self.direct, self.direct_greedy = (
            [[answer for _, answer in of] for of in drawn],
            [answer for _, answer in greedy],
        )
        self.right = [_right(chains, q) for q in range(len(chains))]

    def begin(self, q: int, seed: int) -> None:
        """A run on a question begins; no other is under way."""
        rng = random.Random(f"{q} {seed}")
        self._next = rng.sample(range(len(self.chains[q])), len(self.chains[q]))
        self._next_direct = rng.sample(self.direct[q], len(self.direct[q]))

    def is_right(self, q: int, answer: str) -> bool:
        return canonical(answer).key == self.right[q]

    def write(self, prompt: Prompt, rng: random.Random) -> str:
        """One turn of the model."""
        q = int(prompt.messages[-1].content.split()[-1])
        greedy = rng.random() == GREEDY
        before = prompt.prefix_text.split()
        if not prompt.prefix_text.endswith("\\boxed{"):
            chain = ALL if greedy else self._next.pop()
            tokens, answer = self._chain(q, chain)
            return f"{chain} " + "so " * (tokens - 2) + ("so" if answer is None else f"\\boxed{{{answer}}}.")
        if not before[0].isdigit():  # nothing was written
            answer = self.direct_greedy[q] if greedy else self._next_direct.pop()
            return f"{answer}}}."
        chain, rng = int(before[0]), random.Random(f"{q} {before[0]}")
        tokens, answer = self._chain(q, chain)
        if answer is None or rng.random() > (len(before) - 4) / tokens:
            answer = rng.choice(self.direct[q])
        return f"{answer}}}."

    def _chain(self, q: int, chain: int) -> Said:
        return self.greedy[q] if chain == ALL else self.chains[q][chain]

    def model(self) -> LanguageModel:
        return LanguageModel(Embedded(self.write, latency=LATENCY, room=16, parameters=494_000_000))


def _said(pool: Pool) -> tuple[list[list[Said]], list[Said]]:
    samples, greedy = pool.samples, pool.greedy
    drawn = [
        [(max(2, int(samples.steps[q, k])), samples.answer[q, k]) for k in range(pool.width)] for q in range(len(pool))
    ]
    return drawn, [(max(2, int(greedy.steps[q, 0])), greedy.answer[q, 0]) for q in range(len(pool))]


def _right(pool: Pool, q: int) -> str:
    """The key of the right answer, as one of the samples or the greedy one gave it; empty where none did."""
    for columns in (pool.samples, pool.greedy):
        for k in np.flatnonzero(columns.right[q] > 0):
            return str(pool.keys[q][columns.code[q, k]])
    return ""
