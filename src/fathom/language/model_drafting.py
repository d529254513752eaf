"""A model that drafts for a larger one with the same tokens: what is common to the engines that run one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fathom.language.engines.base import Sampling
from fathom.language.speculative import Draft, Laws, draw, laws

__all__ = ["ModelDrafter"]


class ModelDrafter(ABC):
    """Drafts one text by chains (``fathom.language.drafting.Drafter``), drawn as the target draws.

    ``size`` is that of the target's vocabulary; ``sampling`` is None where the likeliest tokens are to be drafted. How
    the model reads is each engine's own.
    """

    free = False

    def __init__(self, text: Sequence[int], sampling: Sampling | None, size: int, *, seed: int) -> None:
        self._text = list(text)
        self._sampling, self._size = sampling, size
        self._rng = np.random.default_rng((seed, 1))  # apart from the numbers that drafts are weighed with

    @property
    def behind(self) -> int:
        return self._missing(self._text)

    def read(self) -> int:
        before = self.behind
        self._go_on(self._text)
        return before - self.behind

    def extend(self, tokens: Sequence[int]) -> None:
        self._text += tokens

    def draft(self, most: int, branches: int = 1) -> Draft:
        """A chain, whatever ``branches``; shorter where the turn would end, or the model cannot go on."""
        tokens: list[int] = []
        drawn: list[Laws] = []
        while len(tokens) < most and (logits := self._next([*self._text, *tokens])) is not None:
            logits = logits[: self._size]
            if self._sampling is None:
                tokens.append(int(logits.argmax()))
            else:
                law = laws(logits, self._sampling)
                drawn.append(np.pad(law, (0, self._size - len(law))))
                tokens.append(int(draw(law[None], self._rng.random(1))[0]))
            if self._ends(tokens[-1]):
                break
        return Draft.chain(tokens, laws=np.stack(drawn) if drawn else None)

    @abstractmethod
    def _missing(self, text: Sequence[int]) -> int:
        """Tokens of a text that have to be read before it can go on; at least its last."""

    @abstractmethod
    def _go_on(self, text: Sequence[int]) -> object:
        """Read a piece of a text."""

    @abstractmethod
    def _next(self, text: list[int]) -> NDArray[np.float32] | None:
        """The logits after a text, shape (vocabulary,); None where there are none to be had."""

    def _ends(self, token: int) -> bool:
        """Whether nothing is drafted after this token."""
        return False
