"""A strategy on a pool comes to what it comes to live, with the same seeds: the very answer, tally and tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import virtual_time
from rambling import sums

from fathom.api import strategy_of
from fathom.budget import Budget
from fathom.errors import NoAnswer, UsageError
from fathom.lab.keeping import question_seed
from fathom.lab.pool import Pool
from fathom.lab.replay import replay
from fathom.language.model import LanguageModel
from fathom.records import Candidate, Problem, Result
from fathom.run import Run

STRATEGIES = [
    "direct",
    "vote(width=1)",
    "vote(width=6, stop=never)",
    "vote(width=12, wave=1)",
    "vote(width=12, greedy=true)",
    "vote(width=7, greedy=true, stop=never)",
    "best-of-n(width=9, greedy=true, weighted=true)",
    "vote(width=12, wave=5, sure=0.8)",
    "vote(width=12)",
    "vote(width=12, stop=beta, sure=0.9)",
    "vote(width=12, stop=dirichlet, sure=0.8)",
    "vote(width=12, stop=certain)",
    "first(width=5)",
    "first(width=8, of=3)",
    "best-of-n(width=7)",
    "best-of-n(width=7, weighted=true)",
    "best-of-n(width=12, judge=logprob)",
    "best-of-n(width=12, judge=self-certainty)",
    "best-of-n(width=12, judge=self-certainty, weighted=true)",
    "best-of-n(width=12, judge=exact(reference=45, tolerance=0.4))",
    "best-of-n(width=12, judge=exact(reference=45, tolerance=0.4), weighted=true)",
    "best-of-n(width=12, judge=exact(reference=45, tolerance=0.4), wave=1, greedy=true)",
    "best-of-n(width=12, judge=exact(reference=45, tolerance=0.4), wave=5)",
    "best-of-n(width=7, judge=self-certainty, greedy=true)",
]


def live(model: LanguageModel, prompt: str, spec: str, depth: int | None, seed: int) -> Result | NoAnswer:
    async def work() -> Result | NoAnswer:
        run = Run(model, Problem.of(prompt), strategy_of(spec), Budget(depth=depth), seed=seed)
        try:
            return await run.finish()
        except NoAnswer as error:
            return error

    return virtual_time.run(work())


def tallied(candidates: Sequence[Candidate]) -> list[object]:
    """A tally with scores as they are up to rounding: a mean is kept, not what it is the mean of."""
    return [(c.answer, c.votes, c.finished, c.score and pytest.approx(c.score)) for c in candidates]


def check_identity(depth: int | None, fresh: int, rambler: LanguageModel, pools: Callable[..., list[Pool]]) -> None:
    """Every strategy on six questions, played and run."""
    judges = ("self-certainty", "exact(reference=45, tolerance=0.4)")
    (pool,) = pools(count=6, samples=12, depths=(depth,), seed=fresh, judges=judges)
    for q, question in enumerate(sums(fresh, 6).questions):
        for spec in STRATEGIES:
            played = replay(strategy_of(spec), pool, q)
            result = live(rambler, question.prompt, spec, depth, question_seed(fresh, q))
            assert result.receipt is not None
            receipt = result.receipt
            assert (played.answer or "", played.stopped) == (receipt.answer, receipt.stopped), (q, spec)
            assert tallied(played.candidates) == tallied(receipt.candidates), (q, spec)
            assert played.confidence == pytest.approx(receipt.confidence, abs=1e-12), (q, spec)
            assert (played.tokens, played.width) == (receipt.spent.tokens, receipt.spent.width), (q, spec)
            if isinstance(result, Result):
                assert played.score == float(receipt.answer == question.reference)


@pytest.mark.parametrize("depth", [None, 8])
def test_replay_is_identical_to_running_live(
    depth: int | None, fresh: int, rambler: LanguageModel, pools: Callable[..., list[Pool]]
) -> None:
    check_identity(depth, fresh, rambler, pools)


@pytest.mark.parametrize("fresh", [1065])
def test_samples_of_one_text_are_judged_each_by_its_own_probabilities(
    fresh: int, rambler: LanguageModel, pools: Callable[..., list[Pool]]
) -> None:
    """Of this number samples 6 and 7 of question 2 have one text, and probabilities of their own."""
    check_identity(8, fresh, rambler, pools)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("beam(width=4, judge=logprob)", "steers generation"),
        ("vote(width=4) | refine(rounds=1)", "steers generation"),
        ("vote(width=4, at_least=20)", "steers generation"),
        ("vote(width=99)", "more than the 6 samples"),
        ("vote(width=4, depth=3)", "asks for a depth of 3"),
        ("best-of-n(width=4, judge=arithmetic)", "no verdicts of arithmetic"),
    ],
)
def test_what_no_pool_holds_is_refused(spec: str, why: str, pools: Callable[..., list[Pool]]) -> None:
    (pool,) = pools(count=2, samples=6)
    with pytest.raises(UsageError, match=why):
        replay(strategy_of(spec), pool, 0)
