"""Ensembles and cascades over real sessions of several scripted models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from exact_time import exactly_timed

from fathom import Budget, Problem, Run, StopReason
from fathom.errors import SpecError, UpstreamError
from fathom.language.engines.scripted import Latency
from fathom.language.model import LanguageModel
from fathom.search import STRATEGIES, Cascade, Ensemble
from fathom.team import Team

Make = Callable[..., LanguageModel]


def run(models: list[LanguageModel], strategy: Ensemble | Cascade, **limits: float) -> Run:
    return Run(Team(models), Problem.of("?"), strategy, Budget(**limits))  # type: ignore[arg-type]


async def test_models_answer_in_turn_and_vote_together(scripted: Make) -> None:
    models = [scripted({"1": 1}), scripted({"2": 1}), scripted({"2": 1})]
    result = await run(models, Ensemble(models=("b", "c"), width=9)).finish()
    assert result.answer == "2"
    assert {c.answer: c.votes for c in result.receipt.candidates} == {"2": 6, "1": 3}


async def test_weights_count(scripted: Make) -> None:
    models = [scripted({"1": 1}), scripted({"2": 1}), scripted({"2": 1})]
    result = await run(models, Ensemble(models=("b", "c"), weights=(5, 1, 1), width=9)).finish()
    assert result.answer == "1"


async def test_a_member_that_fails_costs_its_votes_only(scripted: Make, fresh: int) -> None:
    broken = scripted({"1": 1}, fail=lambda seed: UpstreamError("out to lunch"))
    result = await run([broken, scripted({str(fresh): 1})], Ensemble(models=("b",), width=8)).finish()
    assert result.answer == str(fresh)
    assert sum(c.votes for c in result.receipt.candidates) == 4
    assert any("out to lunch" in note for note in result.receipt.notes)


async def test_a_member_that_cannot_even_be_opened_costs_its_votes_only(scripted: Make, fresh: int) -> None:
    cramped = scripted({"1": 1}, context_length=16)
    result = await run([cramped, scripted({str(fresh): 1})], Ensemble(models=("b",), width=8)).finish()
    assert result.answer == str(fresh)


async def test_a_confident_cheap_model_ends_the_cascade(scripted: Make) -> None:
    models = [scripted({"1": 1}), scripted({"2": 1})]
    result = await run(models, Cascade(models=("b",), width=8)).finish()
    assert result.answer == "1"
    assert result.receipt.stopped is StopReason.DECIDED
    assert result.receipt.spent.width == 8


async def test_an_unsure_one_is_followed_by_the_next(scripted: Make, fresh: int) -> None:
    unsure = scripted({str(i): 1 for i in range(50)})
    result = await run([unsure, scripted({str(fresh): 1})], Cascade(models=("b",), width=8)).finish()
    assert result.answer == str(fresh)


@pytest.mark.parametrize(("width", "shares"), [(1, [1, 0, 0]), (2, [1, 1, 0]), (7, [2, 2, 3]), (12, [4, 4, 4])])
async def test_a_limit_on_samples_is_shared_by_the_rungs(scripted: Make, width: int, shares: list[int]) -> None:
    models = [scripted({f"{rung}{i}": 1 for i in range(500)}) for rung in range(3)]
    strategy = Cascade(models=("b", "c"), confident=1.0)
    result = await run(models, strategy, width=width).finish()
    assert result.receipt.spent.width == sum(shares)
    drawn = [sum((t.answer or "").startswith(str(rung)) for t in result.trajectories) for rung in range(3)]
    assert drawn == shares


@exactly_timed
async def test_what_a_left_rung_still_grows_is_cut(scripted: Make) -> None:
    slow = scripted(
        lambda prompt, rng: "\\boxed{1}" if rng.random() < 0.9 else "hm " * 4000, latency=Latency(token=0.002), room=8
    )
    result = await asyncio.wait_for(
        run([slow, scripted({"2": 1})], Cascade(models=("b",), width=8, confident=1.0)).finish(), 30
    )
    assert result.answer == "2"
    assert slow.engine.running == 0


async def test_a_failing_rung_is_left_for_the_next(scripted: Make) -> None:
    broken = scripted({"1": 1}, fail=lambda seed: UpstreamError("out to lunch"))
    result = await run([broken, scripted({"2": 1})], Cascade(models=("b",), width=4)).finish()
    assert result.answer == "2"


@exactly_timed
async def test_at_the_deadline_the_best_rung_so_far_answers(scripted: Make) -> None:
    unsure = scripted({"1": 1, "2": 1})
    never = scripted({"3": 1}, latency=Latency(first=60))
    result = await run([unsure, never], Cascade(models=("b",), width=8, confident=1.0), seconds=1).finish()
    assert result.answer in ("1", "2")
    assert never.engine.running == 0


@pytest.mark.parametrize(
    "spec", ["ensemble", "cascade", "ensemble(models=[a], weights=[1])", "cascade(models=[a], confident=2)"]
)
def test_options_that_make_no_sense_are_refused(spec: str) -> None:
    with pytest.raises(SpecError):
        STRATEGIES.build(spec)


def test_they_are_named_by_spec_strings() -> None:
    built = STRATEGIES.build("ensemble(models=[a, 'openai:m@http://h/v1'], weights=[1, 2, 3])")
    assert built == Ensemble(models=("a", "openai:m@http://h/v1"), weights=(1, 2, 3))
    assert STRATEGIES.build(str(built)) == built
