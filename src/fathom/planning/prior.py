"""What is assumed of a model of which nothing was measured. These are stated guesses, and every plan that rests on them
says so; ``fathom calibrate`` puts measurements in their place.

*How often it is right* by its size is our guess, after GSM8K scores of small instruct models. Read were 0.4 % for
SmolLM2 135M (zero-shot, in the table of a model derived from it) and 32.6 % for SmolLM2 1.7B (arXiv 2502.02737); of
Qwen2.5 0.5B, 1.5B and 7B we have 50, 73 and 92 % in mind (arXiv 2412.15115), whose table we could not look up. Ours are
higher at the low end, for most questions are easier than these, and lower at the high end, for some are harder;
interpolated in the logarithm of the parameters. Of a model of unknown size nothing is known: 60 % is a guess. Where it
stands behind cheaper ones in a ladder, somebody thought it better: it is taken to be right on a third of what the one
before it is not.

*How questions differ* is our guess: half of them are contested, with the right answer's share anywhere between none and
all; the others the model knows or does not know. A third of what is wrong is one and the same wrong answer. That makes
a vote of 16 worth some ten points over a single sample, the order of magnitude of the gains that self-consistency
(arXiv 2203.11171) reports for arithmetic: up to 17.9 points on GSM8K.

*What the likeliest line of thought is worth* was measured of the two embedded models on generated arithmetic
(temperature 0.7): greedy decoding of 0.5 B parameters is as often right as a vote of eight samples or more, that of 1.5
B as one of five or more. Of larger models it is less: at 540 B a vote of five is ahead of it (arXiv 2203.11171). So it
is taken to say what a vote of 8, 5, 2 samples would.

*What reasoning is worth* is our guess: without it half as many are right. It stands between arithmetic, where reasoning
is most of what there is, and plain knowledge, where it adds next to nothing (arXiv 2409.12183).
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

from fathom.costs import Costs
from fathom.planning.ability import Ability
from fathom.planning.population import Kind, Population

__all__ = ["population", "prior", "prior_accuracy", "prior_likeliest"]

_BY_SIZE = ((135e6, 0.05), (500e6, 0.45), (1.5e9, 0.65), (7e9, 0.85), (70e9, 0.92))
_UNKNOWN_SIZE = 0.6
_LIKELIEST = ((1e9, 8), (3e9, 5))
_LIKELIEST_OF_OTHERS = 2
_WITHOUT_REASONING = 0.5
_CONTESTED = 0.5
_KNOWN, _NOT_KNOWN = 0.95, 0.0
_RIVAL = 1 / 3
_WEIGHT = 20
"""A prior weighs as much as so many questions: its interval is theirs."""


def prior(costs: Costs, before: Ability | None = None) -> Ability:
    """The assumed ability of a model of this size, and that of the model ``before`` it in a ladder."""
    least = 0.0
    if before is not None and not costs.parameters:
        least = _better(before.accuracy(1, 1.0))
    return _prior(costs.parameters, costs.unit_tokens > 0, least)


def _better(right: float) -> float:
    return right + (1.0 - right) / 3


@lru_cache(maxsize=64)
def _prior(parameters: int, language: bool, least: float) -> Ability:
    right = max(least, prior_accuracy(parameters))
    without = right * _WITHOUT_REASONING if language else 0.0  # a latent that took no step holds no answer
    likeliest = prior_likeliest(parameters) if language else 1  # the mean of a latent's noise is a sample like others
    return Ability(
        ((0.0, population(without, likeliest)), (1.0, population(right, likeliest))),
        questions=_WEIGHT,
        source="stated priors",
        measured=False,
        undecided=population(0.5, likeliest),
    )


def prior_accuracy(parameters: int) -> float:
    """How often one sample is assumed to be right; ``parameters`` 0 is a model of unknown size."""
    if parameters <= 0:
        return _UNKNOWN_SIZE
    if parameters <= _BY_SIZE[0][0]:
        return _BY_SIZE[0][1]
    for (small, low), (large, high) in itertools.pairwise(_BY_SIZE):
        if parameters <= large:
            return low + (high - low) * math.log(parameters / small) / math.log(large / small)
    return _BY_SIZE[-1][1]


def prior_likeliest(parameters: int) -> int:
    """How many samples' vote greedy decoding is assumed to be worth; ``parameters`` 0 is a model of unknown size."""
    if parameters <= 0:
        return _LIKELIEST_OF_OTHERS
    return next((samples for size, samples in _LIKELIEST if parameters <= size), _LIKELIEST_OF_OTHERS)


@lru_cache(maxsize=256)
def population(right: float, likeliest: int = 1, kinds: int = 12) -> Population:
    """Questions of which a sample is right with probability ``right`` on average."""
    contested = min(_CONTESTED, 1.8 * right, 1.8 * (1.0 - right))
    known = min(1.0 - contested, max(0.0, right - contested / 2))
    shares = [((i + 0.5) / kinds, contested / kinds) for i in range(kinds)]
    shares += [(_KNOWN, known), (_NOT_KNOWN, 1.0 - contested - known)]
    return Population(tuple(Kind(weight, share, _RIVAL * (1.0 - share)) for share, weight in shares), likeliest)
