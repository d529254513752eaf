"""Drawing the next token, and its log-probability, from one row of logits.

The samplers are llama.cpp's, in its own order: penalties, top-k, top-p, min-p, temperature, and a draw by a generator
of the choice's own, so that what one choice draws does not depend on how many others run beside it. Log-probabilities
are those of the model itself: over the whole vocabulary at temperature 1, before any sampler.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fathom.language.engines.base import Sampling
from fathom.language.engines.llama_c import Library, TokenData, TokenDataArray
from fathom.language.engines.llama_grammar import Grammar
from fathom.language.engines.sampling import complete

__all__ = ["Candidates", "Sampler", "logprob", "top_logprobs"]

_LARGEST_SEED = 2**32 - 1  # which llama.cpp takes for "any"


class Candidates:
    """The working space in which samplers sort and weigh a vocabulary; one serves all choices of a thread."""

    def __init__(self, n_vocab: int) -> None:
        self._ids = np.arange(n_vocab, dtype=np.int32)
        self._rows = np.zeros(n_vocab, dtype=[("id", np.int32), ("logit", np.float32), ("p", np.float32)])

    def __len__(self) -> int:
        return len(self._ids)

    def of(self, logits: NDArray[np.float32], biases: Mapping[int, float] | None = None) -> TokenDataArray:
        self._rows["id"], self._rows["logit"] = self._ids, logits
        for token, bias in (biases or {}).items():
            if 0 <= token < len(self._ids):
                self._rows["logit"][token] += bias
        return TokenDataArray(self._rows.ctypes.data_as(ctypes.POINTER(TokenData)), len(self._rows), -1, False)


class Sampler:
    """Draws for one choice; temperature 0 is greedy. Holds native memory until ``free()``.

    ``window`` is how many of the last tokens penalties look at.
    """

    def __init__(
        self,
        library: Library,
        sampling: Sampling,
        candidates: Candidates,
        *,
        seed: int,
        window: int,
        grammar: Grammar | None = None,
    ) -> None:
        self._lib, self._candidates, self._grammar = library, candidates, grammar
        self._biases = sampling.logit_bias
        self._chain: int | None = library.llama_sampler_chain_init(True)
        for sampler in _chain(library, sampling, len(candidates), seed % _LARGEST_SEED, window):
            library.llama_sampler_chain_add(self._chain, sampler)

    def draw(self, logits: NDArray[np.float32]) -> int:
        """The next token; the sampler goes on as if it was taken. Raises EngineError where a schema allows none."""
        allowed = logits if self._grammar is None else self._grammar.allowed(logits)
        rows = self._candidates.of(allowed, self._biases)
        self._lib.llama_sampler_apply(self._chain, rows)
        token = int(rows.data[max(rows.selected, 0)].id)
        self._lib.llama_sampler_accept(self._chain, token)
        if self._grammar is not None:
            self._grammar.accept(token)
        return token

    def free(self) -> None:
        if self._chain is not None:
            self._lib.llama_sampler_free(self._chain)
            self._chain = None
        self._grammar = None


def _chain(library: Library, sampling: Sampling, n_vocab: int, seed: int, window: int) -> list[int]:
    sampling = complete(sampling)
    presence, frequency = sampling.presence_penalty or 0.0, sampling.frequency_penalty or 0.0
    samplers: list[int] = []
    if presence or frequency:
        samplers.append(library.llama_sampler_init_penalties(n_vocab, window, 1.0, frequency, presence))
    if not sampling.temperature:
        return [*samplers, library.llama_sampler_init_greedy()]
    return [
        *samplers,
        library.llama_sampler_init_top_k(sampling.top_k),  # these four know when they have nothing to do
        library.llama_sampler_init_top_p(sampling.top_p, 1),
        library.llama_sampler_init_min_p(sampling.min_p, 1),
        library.llama_sampler_init_temp(sampling.temperature),
        library.llama_sampler_init_dist(seed),
    ]


def logprob(logits: NDArray[np.float32], token: int) -> float:
    """Natural-log probability of a token, over the whole vocabulary at temperature 1."""
    return float(logits[token]) - _log_sum_exp(logits)


def top_logprobs(logits: NDArray[np.float32], count: int) -> list[tuple[int, float]]:
    """The ``count`` most likely tokens with their log-probabilities, best first."""
    count = min(count, len(logits))
    best = np.argpartition(logits, -count)[-count:]
    total = _log_sum_exp(logits)
    return [(int(token), float(logits[token]) - total) for token in best[np.argsort(-logits[best], kind="stable")]]


def _log_sum_exp(logits: NDArray[np.float32]) -> float:
    most = logits.max()
    return float(most) + math.log(float(np.exp(logits - most).sum()))
