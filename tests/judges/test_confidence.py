"""``logprob`` and ``self-certainty``: what they compute, and what they refuse."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fathom
from fathom.errors import CapabilityError, SpecError
from fathom.judges.base import Candidate
from fathom.judges.confidence import over
from fathom.judges.logprob import LogProb
from fathom.judges.registry import make_judge
from fathom.judges.self_certainty import SelfCertainty, certainty
from fathom.language.engines.base import EngineCapability
from fathom.language.engines.scripted import ScriptedEngine
from fathom.language.model import LanguageModel
from fathom.search import BestOfN

series = st.lists(st.floats(-20, 0), min_size=1, max_size=60)
windows = st.integers(1, 70)


@given(series, windows)
def test_the_lowest_group_is_the_minimum_over_all_windows(values: list[float], window: int) -> None:
    size = min(window, len(values))
    means = [fmean(values[at : at + size]) for at in range(len(values) - size + 1)]
    assert over(values, "group", window) == pytest.approx(min(means), abs=1e-9)
    assert over(values, "tail", window) == pytest.approx(means[-1], abs=1e-9)


@given(series, windows, st.floats(0.01, 1))
def test_the_lowest_group_is_below_the_bottom_and_the_tail(values: list[float], window: int, share: float) -> None:
    group, bottom = over(values, "group", window), over(values, "bottom", window, share)
    assert min(values) - 1e-9 <= group <= bottom + 1e-9
    assert bottom <= over(values, "bottom", window, 1.0) + 1e-9
    assert group <= over(values, "tail", window) + 1e-9


def test_one_weak_stretch_shows_in_the_group_and_not_in_the_mean() -> None:
    sure = [-0.01] * 1000
    weak = [*sure[:500], *[-3.0] * 20, *sure[:480]]
    assert over(sure, "mean", 20) - over(weak, "mean", 20) < 0.1
    assert over(sure, "group", 20) - over(weak, "group", 20) > 2.5


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=20))
def test_certainty_is_the_divergence_of_uniform_from_the_model(weights: list[float]) -> None:
    p = [weight / sum(weights) for weight in weights]
    k = len(p)
    divergence = sum(1 / k * math.log(1 / k / q) for q in p)
    assert certainty([math.log(q) for q in p]) == pytest.approx(divergence, abs=1e-9)


def test_certainty_of_equals_is_nothing_and_excluded_tokens_do_not_break_it() -> None:
    assert certainty([math.log(1 / 4)] * 4) == pytest.approx(0, abs=1e-12)
    assert math.isfinite(certainty([0.0, -math.inf, -9999.0]))


async def test_scores_are_in_range_and_without_figures_there_is_no_verdict() -> None:
    rng = random.Random(random.SystemRandom().random())
    p = [rng.uniform(0.05, 1) for _ in range(30)]
    given = Candidate("…", "1", logprobs=tuple(map(math.log, p)), top_logprobs=((-0.1, -5.0), (-0.2, -4.0)))
    (verdict,) = await LogProb().judge("?", [given])
    assert verdict.score == pytest.approx(math.prod(p) ** (1 / len(p)))
    (certain,) = await SelfCertainty().judge("?", [given])
    mean = ((5.1 + 4.2) / 2) / 2 - math.log(2)
    assert certain.score == pytest.approx(mean / (1 + mean))
    for judge in (LogProb(), SelfCertainty()):
        (verdict,) = await judge.judge("?", [Candidate("…", "1")])
        assert verdict.passed is None
        assert "no verdict" in verdict.detail


@pytest.mark.parametrize("spec", ["logprob(of=median)", "logprob(window=0)", "self-certainty(share=0)", "logprob(k=1)"])
def test_options_that_make_no_sense_are_refused(spec: str) -> None:
    with pytest.raises(SpecError):
        make_judge(spec)


class _Mute(ScriptedEngine):
    """An engine without log-probabilities."""

    def __init__(self) -> None:
        super().__init__({"1": 1})
        self._traits = replace(self._traits, capabilities=self._traits.capabilities - {EngineCapability.LOGPROBS})


@pytest.mark.parametrize("judge", ["logprob", "self-certainty(of=group)"])
async def test_in_a_run_they_get_what_they_need_or_are_refused_before_anything_is_spent(judge: str) -> None:
    strategy = f"best-of-n(width=6, judge={judge})"
    model = LanguageModel(ScriptedEngine({"1": 1, "2": 1}))
    result = await fathom.asolve(model, "?", strategy=strategy)
    assert all(candidate.score and 0 < candidate.score < 1 for candidate in result.receipt.candidates)
    assert not any("no verdict" in note for note in result.receipt.notes)
    meter = fathom.Meter()
    with pytest.raises(CapabilityError, match="logprobs"):
        await fathom.asolve(LanguageModel(_Mute()), "?", strategy=strategy, budget=meter)
    assert meter.spent.calls == 0


async def test_the_judge_logprob_ranks_as_best_of_n_does_without_a_judge() -> None:
    model = LanguageModel(ScriptedEngine({"1": 1, "2": 1, "3": 1}))
    plain = await fathom.asolve(model, "?", strategy=BestOfN(width=8), seed=5)
    judged = await fathom.asolve(model, "?", strategy=BestOfN(width=8, judge=LogProb()), seed=5)
    assert plain.answer == judged.answer
