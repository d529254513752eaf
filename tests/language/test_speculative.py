"""Speculative sampling is lossless: what comes out follows the target's law, whoever drafted, in whatever shape.

The target is a Markov chain over five tokens, so that the law of three tokens in a row is known exactly. Over 120,000
texts the counts of all 125 outcomes are compared with it by a chi-square test at ALPHA. Seeds are fixed: a correct
program passes always, and ``test_the_test_tells_a_wrong_law`` shows that a wrong one fails.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2

from fathom.language.engines.base import Sampling
from fathom.language.speculative import Draft, Laws, accept, draw, laws

ALPHA = 1e-4
TEXTS = 120_000
SIZE = 5
LENGTH = 3
START = 0
OPEN = {"top_k": 0, "top_p": 1.0}

SAMPLINGS = [
    pytest.param(Sampling(temperature=t, **cut), id=f"T{t}-{name}")
    for t in (0.0, 0.7, 1.0)
    for name, cut in (("all", OPEN), ("top-k", {**OPEN, "top_k": 3}), ("top-p", {**OPEN, "top_p": 0.75}))
    if t or name == "all"
]

Tokens = NDArray[np.int64]
Drafting = Callable[[Laws, Tokens, np.random.Generator], tuple[Tokens, tuple[int, ...], Laws | None]]


def chains(sampling: Sampling, seed: int) -> tuple[Laws, Laws]:
    """The laws of target and drafter after each token: two different chains, sampled alike."""
    rng = np.random.default_rng(seed)
    target = rng.normal(0, 1.2, (SIZE, SIZE))
    return laws(target, sampling), laws(target + rng.normal(0, 0.9, (SIZE, SIZE)), sampling)


def drawn(law: Laws, after: Tokens, rng: np.random.Generator) -> Tokens:
    return draw(law[after], rng.random(len(after)))


def chain(law: Laws, last: Tokens, rng: np.random.Generator) -> tuple[Tokens, tuple[int, ...], Laws | None]:
    tokens, drafted = [last], []
    for _ in range(3):
        drafted.append(law[tokens[-1]])
        tokens.append(drawn(law, tokens[-1], rng))
    return np.stack(tokens[1:], axis=1), (-1, 0, 1), np.stack(drafted, axis=1)


def tree(law: Laws, last: Tokens, rng: np.random.Generator) -> tuple[Tokens, tuple[int, ...], Laws | None]:
    """Two candidates drawn independently, two more under the first, one under the second."""
    a, b = drawn(law, last, rng), drawn(law, last, rng)
    under = [drawn(law, a, rng), drawn(law, a, rng), drawn(law, b, rng)]
    drafted = np.stack([law[last], law[last], law[a], law[a], law[b]], axis=1)
    return np.stack([a, b, *under], axis=1), (-1, -1, 0, 0, 1), drafted


def unlike(law: Laws, last: Tokens, rng: np.random.Generator) -> tuple[Tokens, tuple[int, ...], Laws | None]:
    """Two candidates without replacement: the second is drawn from what the first leaves of the law."""
    a = drawn(law, last, rng)
    rest = law[last].copy()
    rest[np.arange(len(a)), a] = 1e-300  # where the first had all the weight, any other will do
    rest /= rest.sum(axis=1, keepdims=True)
    b = draw(rest, rng.random(len(a)))
    return np.stack([a, b], axis=1), (-1, -1), np.stack([law[last], rest], axis=1)


def known(law: Laws, last: Tokens, rng: np.random.Generator) -> tuple[Tokens, tuple[int, ...], Laws | None]:
    """What a drafter knows that does not draw: a chain."""
    a = law[last].argmax(axis=1)
    return np.stack([a, law[a].argmax(axis=1)], axis=1), (-1, 0), None


def known_tree(law: Laws, last: Tokens, rng: np.random.Generator) -> tuple[Tokens, tuple[int, ...], Laws | None]:
    best = np.argsort(-law[last], axis=1)
    return np.concatenate([best[:, :2], law[best[:, 1]].argmax(axis=1)[:, None]], axis=1), (-1, -1, 1), None


def speculate(target: Laws, drafter: Laws, drafting: Drafting, seed: int, lockstep: int = 1) -> Tokens:
    """Texts of LENGTH tokens, shape (texts, LENGTH). ``lockstep`` of them advance by as much as the slowest."""
    rng = np.random.default_rng(seed)
    out = np.zeros((TEXTS, LENGTH + 8), dtype=np.int64)
    done = np.zeros(TEXTS, dtype=np.int64)
    last = np.full(TEXTS, START)
    while (going := np.flatnonzero((done.reshape(-1, lockstep) < LENGTH).any(axis=1).repeat(lockstep))).size:
        tokens, parents, drafted = drafting(drafter, last[going], rng)
        after = np.concatenate([last[going, None], tokens], axis=1)
        verdict = accept(target[after], tokens, parents, drafted, rng.random((len(going), tokens.shape[1] + 1)))
        made = np.full((len(going), tokens.shape[1] + 1), -1)
        count = np.zeros(len(going), dtype=np.int64)
        for node in range(tokens.shape[1]):
            on = np.flatnonzero(verdict.accepted[:, node])
            made[on, count[on]] = tokens[on, node]
            count[on] += 1
        made[np.arange(len(going)), count] = verdict.token
        count = (count.reshape(-1, lockstep).min(axis=1) + 1).repeat(lockstep)
        for place in range(int(count.max())):
            on = np.flatnonzero(count > place)
            out[going[on], np.minimum(done[going[on]], LENGTH + 7)] = made[on, place]
            done[going[on]] += 1
            last[going[on]] = made[on, place]
    return out[:, :LENGTH]


def p_value(texts: Tokens, target: Laws) -> float:
    """Of the chi-square test of the counts of all outcomes; 0 where an impossible one was seen."""
    outcomes = list(itertools.product(range(SIZE), repeat=LENGTH))
    expected = np.array([target[START, a] * target[a, b] * target[b, c] for a, b, c in outcomes]) * len(texts)
    seen = np.bincount(texts @ SIZE ** np.arange(LENGTH)[::-1], minlength=SIZE**LENGTH)
    if seen[expected == 0].any():
        return 0.0
    common = expected >= 5
    seen = np.append(seen[common], seen[~common].sum())
    expected = np.append(expected[common], expected[~common].sum())
    held = expected > 0
    statistic = float((np.square(seen[held] - expected[held]) / expected[held]).sum())
    return float(chi2.sf(statistic, held.sum() - 1)) if held.sum() > 1 else 1.0


@pytest.mark.slow
@pytest.mark.parametrize("drafting", [chain, tree, unlike, known, known_tree])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_output_follows_the_target(sampling: Sampling, drafting: Drafting) -> None:
    target, drafter = chains(sampling, seed=11)
    assert p_value(speculate(target, drafter, drafting, seed=12), target) > ALPHA


@pytest.mark.parametrize("drafting", [chain, known])
def test_texts_that_advance_in_step_follow_it_too(drafting: Drafting) -> None:
    target, drafter = chains(Sampling(temperature=1.0, **OPEN), seed=21)
    texts = speculate(target, drafter, drafting, seed=22, lockstep=2)
    assert p_value(texts, target) > ALPHA
    assert p_value(texts[::2], target) > ALPHA


def test_the_test_tells_a_wrong_law() -> None:
    target, drafter = chains(Sampling(temperature=1.0, **OPEN), seed=11)
    assert p_value(speculate(drafter, drafter, chain, seed=12), target) < ALPHA
    nearly = 0.95 * target + 0.05 * drafter
    assert p_value(speculate(nearly, drafter, chain, seed=12), target) < ALPHA


def test_a_drafter_that_is_the_target_is_never_wrong() -> None:
    target, _ = chains(Sampling(temperature=0.7, **OPEN), seed=3)
    rng = np.random.default_rng(4)
    last = rng.integers(SIZE, size=5000)
    tokens, parents, drafted = chain(target, last, rng)
    after = np.concatenate([last[:, None], tokens], axis=1)
    verdict = accept(target[after], tokens, parents, drafted, rng.random((5000, 4)))
    assert verdict.accepted.all()


def test_greedy_takes_the_likeliest_token_whatever_was_drafted() -> None:
    rng = np.random.default_rng()
    logits = rng.normal(size=(400, 3, 9))
    tokens = rng.integers(9, size=(400, 2))
    tokens[::2, 0] = logits[::2, 0].argmax(axis=-1)
    verdict = accept(laws(logits, Sampling(temperature=0.0)), tokens, (-1, 0), None, rng.random((400, 3)))
    best = logits.argmax(axis=-1)
    for i in range(400):
        right = 0 if tokens[i, 0] != best[i, 0] else 1 if tokens[i, 1] != best[i, 1] else 2
        assert verdict.accepted[i].sum() == right
        assert verdict.token[i] == best[i, right]


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 12),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
    st.floats(0.05, 3.0),
)
def test_laws_are_cut_as_they_should(seed: int, top_k: int, top_p: float, min_p: float, temperature: float) -> None:
    logits = np.random.default_rng(seed).normal(0, 2, 10)
    law = laws(logits, Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p))
    assert law.sum() == pytest.approx(1)
    order = np.argsort(-logits)
    kept = [token for token in order if law[token] > 0]
    assert kept == list(order[: len(kept)])
    shortlist = np.exp(logits[order[: top_k or 10]])
    shortlist /= shortlist.sum()
    if top_p < 1:
        assert shortlist[: len(kept) - 1].sum() <= top_p + 1e-9 or len(kept) == 1
    assert len(kept) == 1 or law[kept[-1]] ** temperature >= (min_p - 1e-9) * law[kept[0]] ** temperature
    ratio = np.log(law[kept] / law[kept[0]]) * temperature
    assert ratio == pytest.approx(logits[kept] - logits[kept[0]], abs=1e-6)


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda w: sum(w) > 0.01), st.floats(0, 1, exclude_max=True)
)
def test_what_has_no_weight_is_never_drawn(weights: list[float], uniform: float) -> None:
    law = np.array([weights]) / sum(weights)
    assert law[0, draw(law, np.array([uniform]))[0]] > 0
    assert law[0, draw(law, np.array([np.nextafter(1.0, 0.0)]))[0]] > 0


def test_the_path_of_a_tree() -> None:
    draft = Draft((5, 6, 7, 5), (-1, -1, 1, 2))
    assert (draft.path([6, 7, 5, 5]), draft.path([5, 6]), draft.path([9])) == ([1, 2, 3], [0], [])
    assert (draft.depth, draft.is_chain, Draft.chain([1, 2]).is_chain) == (3, False, True)
