"""The embedded model's own recorded chains, played in virtual time: real answers and lengths, at a measured pace.

Three sweeps of the same questions hold what it said, with all the reasoning that it wanted, with none, and cut:

    fathom sweep embedded arithmetic:60 -o runs/arith --samples 16 --seed 2026
    fathom sweep embedded arithmetic:60 -o runs/arith0 --samples 16 --seed 2026 --depth 0
    fathom sweep embedded arithmetic:60 -o runs/arith-cut --samples 4 --seed 2026 --depth 8,16,32,64

A run draws a question's recorded chains in an order of its own, none twice (the same wrong chain twice would look like
agreement), and so at most as many as there are; the greedy one is the recorded greedy one. One that is cut concludes as
one of those did that were cut on this question where it is, the greedy one as itself; between two depths that were
recorded, its own end among them, it is as if at either, with a chance that is linear in between.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from simulated import GREEDY, Embedded

from fathom.answers import canonical
from fathom.lab.pool import Columns, Pool, load_all
from fathom.language.engines.base import Prompt
from fathom.language.engines.scripted import Latency
from fathom.language.model import LanguageModel

LATENCY = Latency(token=0.072, crowding=0.222)
"""As measured on two slow cores with nothing else to do: 14 tokens a second at width 1, 53 at 16. Reading is free."""
SWEEPS = Path("runs/arith"), Path("runs/arith0"), Path("runs/arith-cut")
ALL = 999
"""The number of the greedy chain."""
Said = tuple[int, str | None]
"""Tokens and answer of a chain."""
Cut = dict[int, list[list[str | None]]]
"""By depth, for each question what was said of reasoning that was cut there."""


class Recorded:
    """What the model said, by question. ``right[q]`` is the key of the right answer."""

    def __init__(self, whole: Path, bare: Path, cut: Path) -> None:
        (chains,), (direct,) = load_all(whole), load_all(bare)
        self.questions = chains.questions
        self.chains, self.greedy = _said(chains)
        drawn, greedy = _said(direct)
        self.direct, self.direct_greedy = (
            [[answer for _, answer in of] for of in drawn],
            [answer for _, answer in greedy],
        )
        self.right = [_right(chains, q) for q in range(len(chains))]
        self.cut: Cut = {}
        self.cut_greedy: Cut = {}
        for pool in load_all(cut):
            assert pool.depth is not None, f"{cut} holds chains that were not cut"
            self.cut[pool.depth], self.cut_greedy[pool.depth] = _cut(pool.samples), _cut(pool.greedy)

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
        chain = int(before[0])
        return f"{self._cut_at(len(before) - 4, q, chain) or ''}}}."

    def _cut_at(self, tokens: int, q: int, chain: int) -> str | None:
        """What is said of this chain when it is cut after so many tokens."""
        rng = random.Random(f"{q} {chain}")
        recorded = self.cut_greedy if chain == ALL else self.cut
        length, answer = self._chain(q, chain)
        said = {0: [self.direct_greedy[q]] if chain == ALL else self.direct[q]}
        said |= {depth: of[q] for depth, of in recorded.items() if of[q] and depth < length}
        said[length] = [answer]
        if tokens >= length:
            return answer
        before, after = max(d for d in said if d <= tokens), min(d for d in said if d > tokens)
        at = after if rng.random() < (tokens - before) / (after - before) else before
        return rng.choice(said[at])

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


def _cut(columns: Columns) -> list[list[str | None]]:
    """What those said that did not come to their own end."""
    return [list(said[~over]) for said, over in zip(columns.answer, columns.finished, strict=True)]


def _right(pool: Pool, q: int) -> str:
    """The key of the right answer, as one of the samples or the greedy one gave it; empty where none did."""
    for columns in (pool.samples, pool.greedy):
        for k in np.flatnonzero(columns.right[q] > 0):
            return str(pool.keys[q][columns.code[q, k]])
    return ""
