"""Drafts are verified, revised with the finding, and never made worse."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from exact_time import exactly_timed
from hypothesis import given
from hypothesis import strategies as st
from rehearsal import Scores, play, said

import fathom
from fathom import StopReason
from fathom.errors import UsageError
from fathom.language.engines.base import Prompt
from fathom.language.engines.scripted import Latency
from fathom.language.model import LanguageModel
from fathom.search import Refine
from fathom.search.base import Grow, Terms

Make = Callable[..., LanguageModel]
tables = st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 0.99), min_size=6, max_size=6)


@given(
    tables, st.lists(st.sampled_from("abcdef"), min_size=40), st.integers(1, 3), st.integers(1, 5), st.integers(0, 12),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_it_never_returns_what_its_judge_scored_lower_than_an_earlier_draft(
    scores: dict[str, float], answers: list[str], width: int, rounds: int, stop_after: int, rng: random.Random
) -> None:
    core = Refine(rounds=rounds, width=width, judge=Scores(scores)).begin(Terms())
    play(
        core,
        lambda grow, id, core: said(id, answers[id % len(answers)]),
        shuffle=rng,
        until=lambda core: len(core.trajectories) > stop_after,
    )
    best = max(verdict.score for verdict in core.verdicts.values())
    assert scores[core.standing.answer or ""] == best


@given(tables, st.lists(st.sampled_from("abcdef"), min_size=40), st.integers(1, 3), st.integers(1, 5))
def test_every_revision_sees_one_attempt_and_what_was_found_about_it(
    scores: dict[str, float], answers: list[str], width: int, rounds: int
) -> None:
    core = Refine(rounds=rounds, width=width, judge=Scores(scores)).begin(Terms())
    asked = play(core, lambda grow, id, core: said(id, answers[id % len(answers)]))
    grows = [action for action in asked if isinstance(action, Grow)]
    assert not any(grow.sources for grow in grows if 0 in grow.ids)
    for grow in grows:
        for source in grow.sources:
            answer = core.trajectories[source].answer or ""
            assert grow.feedback == f"{answer} is worth {scores[answer]}"
    assert sum(len(grow.ids) for grow in grows) <= width * (rounds + 1)


def test_it_stops_when_verified_or_when_a_round_changes_nothing_or_after_its_rounds() -> None:
    def stopped(answers: list[str], rounds: int = 3) -> tuple[StopReason | None, int]:
        core = Refine(rounds=rounds, judge=Scores({"right": 1.0})).begin(Terms())
        play(core, lambda grow, id, core: said(id, answers[id]))
        return core.stopped, len(core.trajectories)

    assert stopped(["wrong", "right", "x", "x"]) == (StopReason.VERIFIED, 2)
    assert stopped(["wrong", "wrong", "x", "x"]) == (StopReason.CONVERGED, 2)
    assert stopped(["a", "b", "c", "d"]) == (None, 4)


def test_what_gave_no_answer_is_tried_afresh() -> None:
    core = Refine(rounds=2).begin(Terms())
    asked = play(core, lambda grow, id, core: said(id, "5" if id else None), conclude=lambda t: t)
    assert [a.sources for a in asked if isinstance(a, Grow)] == [(), (), (1,)]
    assert core.standing.answer == "5"


def revising(right: str) -> Callable[[Prompt, random.Random], str]:
    """A script that is wrong at first, and right once its attempt is shown to it with what was found."""

    def write(prompt: Prompt, rng: random.Random) -> str:
        revision = "correct what is wrong" in prompt.messages[-1].content
        seen = "is worth" in prompt.messages[-1].content
        return f"\\boxed{{{right if revision and seen else rng.randrange(9)}}}"

    return write


async def test_the_finding_reaches_the_model_and_the_verified_answer_ends_the_run(scripted: Make, fresh: int) -> None:
    model = scripted(revising(str(fresh)), room=4)
    result = await fathom.asolve(model, "?", strategy=Refine(judge=Scores({str(fresh): 1.0})))
    assert result.answer == str(fresh)
    assert result.receipt.stopped is StopReason.VERIFIED
    assert result.receipt.valid is True
    assert result.receipt.spent.width == 2
    assert model.engine.running == 0


@exactly_timed
async def test_limits_hold_and_the_best_so_far_is_the_answer(scripted: Make) -> None:
    def wavering(prompt: Prompt, rng: random.Random) -> str:
        return "well " * 20 + f"\\boxed{{{rng.randrange(10**6)}}}"

    model = scripted(wavering, room=4, latency=Latency(token=0.002))
    result = await fathom.asolve(model, "?", strategy="refine(rounds=100)", within=0.4)
    assert result.answer
    assert result.receipt.stopped is StopReason.DEADLINE
    result = await fathom.asolve(model, "?", strategy="refine(rounds=100)", budget=fathom.Budget(tokens=200))
    assert result.receipt.spent.tokens <= 200
    result = await fathom.asolve(model, "?", strategy="refine(rounds=9)", budget=fathom.Budget(width=3))
    assert result.receipt.spent.width == 3
    assert model.engine.running == 0


async def test_rounds_must_be_some(scripted: Make) -> None:
    with pytest.raises(UsageError, match="rounds"):
        await fathom.asolve(scripted({"1": 1}), "?", strategy="refine(rounds=0)")
