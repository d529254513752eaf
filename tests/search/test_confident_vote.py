"""Votes weighted by confidence: who sets the bar, who is cut under it, what that saves, and what it needs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fathom
from fathom import Budget, StopReason, Trajectory
from fathom.errors import CapabilityError, SpecError
from fathom.language.confidence import Watch, token_confidence
from fathom.language.engines.base import EngineTraits, Prompt
from fathom.language.engines.scripted import Latency
from fathom.language.model import LanguageModel
from fathom.reasoner import Floor
from fathom.search import STRATEGIES, Vote
from fathom.search.base import Conclude, Drop, Grow, Terms

Make = Callable[..., LanguageModel]
LONG = 60


def sure(p: float) -> tuple[float, ...]:
    """The likeliest tokens of a step at which one has the probability ``p`` and three share the rest."""
    return math.log(p), *(math.log((1 - p) / 3) for _ in range(3))


def sample(id: int, answer: str, *probabilities: float) -> Trajectory:
    tops = tuple(sure(p) for p in probabilities)
    return Trajectory(id, depth=len(tops), answer=answer, key=answer, finished=True, reason="stop", top_logprobs=tops)


def cut(id: int) -> Trajectory:
    return Trajectory(id, depth=3, reason="weak")


@given(st.lists(st.floats(0.3, 0.99), min_size=1, max_size=60), st.integers(1, 12), st.floats(0.5, 4), st.data())
def test_a_watch_sees_the_first_stretch_under_the_floor_however_tokens_come(
    probabilities: list[float], window: int, least: float, data: st.DataObject
) -> None:
    tops = [sure(p) for p in probabilities]
    values = [token_confidence(top) for top in tops]
    means = [math.fsum(values[end - window : end]) / window for end in range(window, len(values) + 1)]
    if any(abs(mean - least) < 1e-9 for mean in means):
        return
    watch, seen, fell = Watch(Floor(window, least)), 0, False
    while seen < len(tops) and not fell:
        seen = data.draw(st.integers(seen + 1, len(tops)))
        fell = watch.fell(tops[:seen])
    first = next((end for end, mean in enumerate(means, window) if mean < least), None)
    assert fell == (first is not None)
    assert first is None or first <= seen


def test_the_bar_is_set_by_the_surest_of_the_warm_up_and_the_rest_of_it_votes_no_more() -> None:
    core = Vote(width=8, stop="never", confidence="mean", window=2, keep=0.5, warmup=4).begin(Terms())
    (grow,) = core.ask(8)
    assert isinstance(grow, Grow)
    assert (grow.ids, grow.floor) == ((0, 1, 2, 3), None)
    levels = {0: 0.4, 1: 0.9, 2: 0.5, 3: 0.8}
    for id, p in levels.items():
        assert core.ask(8) == []
        core.tell(sample(id, "wrong" if p < 0.6 else "right", 0.99, p, p))
    (grow,) = core.ask(8)
    assert isinstance(grow, Grow)
    assert grow.floor is not None
    assert grow.floor.window == 2
    assert grow.floor.least == pytest.approx(token_confidence(sure(0.8)))
    assert [candidate.answer for candidate in core.standing.candidates] == ["right"]
    assert any("2 of 4" in note for note in core.standing.notes)


def test_votes_weigh_by_confidence_and_the_cut_weigh_nothing_and_are_let_go() -> None:
    core = Vote(width=7, stop="never", confidence="mean", window=3, keep=1.0, warmup=2).begin(Terms())
    core.ask(9)
    core.tell(sample(0, "a", 0.5, 0.5, 0.5))
    core.tell(sample(1, "b", 0.5, 0.5, 0.5))
    (grow,) = core.ask(9)
    assert grow.ids == (2, 3, 4, 5, 6)
    core.tell(sample(2, "a", 0.6, 0.6, 0.6))
    core.tell(sample(3, "a", 0.6, 0.6, 0.6))
    core.tell(sample(4, "b", 0.99, 0.99, 0.99))
    core.tell(sample(5, "b", 0.99, 0.99, 0.99))
    core.tell(cut(6))
    assert core.ask(9) == [Drop((6,))]
    confidence = {p: token_confidence(sure(p)) / token_confidence(sure(0.5)) for p in (0.6, 0.99)}
    votes = {candidate.answer: candidate.votes for candidate in core.standing.candidates}
    assert votes == {"a": pytest.approx(1 + 2 * confidence[0.6]), "b": pytest.approx(1 + 2 * confidence[0.99])}
    assert core.standing.answer == "b"


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.3, 0.99)), min_size=4, max_size=4), st.floats(0.05, 1))
def test_of_the_warm_up_the_share_to_keep_is_kept_and_somebody_always_votes(
    drawn: list[tuple[str, float]], keep: float
) -> None:
    core = Vote(width=4, stop="never", confidence="group", window=2, keep=keep, warmup=4).begin(Terms())
    core.ask(4)
    for id, (answer, p) in enumerate(drawn):
        core.tell(sample(id, answer, p, p))
    assert core.ask(4) == []
    kept = 4 - len(core.weak)  # type: ignore[attr-defined]
    ties = 4 - len({p for _, p in drawn})
    assert math.ceil(keep * 4) <= kept <= math.ceil(keep * 4) + ties
    assert core.standing.answer is not None


def wavering(prompt: Prompt, rng: random.Random) -> str:
    """Half of the lines lose their way after a few words, go on for long, and are wrong."""
    if prompt.prefix_text.endswith("\\boxed{"):
        return "0}."
    if rng.random() < 0.5:
        return "Clear." + " surely" * LONG + " \\boxed{7}."
    return "Hm." + " surely" * 6 + " perhaps" * LONG + f" \\boxed{{{rng.randrange(3)}}}."


def probability(word: str) -> float:
    return 0.4 if "perhaps" in word else 0.95


SPEC = "vote(width=32, stop=never, confidence=tail, window=8, keep=0.5, warmup=8)"


@pytest.mark.parametrize("budget", [None, Budget(seconds=30)], ids=["unlimited", "deadline"])
async def test_the_unsure_are_cut_early_which_saves_their_tokens(scripted: Make, budget: Budget | None) -> None:
    model = scripted(wavering, probability=probability, room=32, latency=Latency(token=1e-4))
    plain = await fathom.asolve(model, "?", strategy="vote(width=32, stop=never)", budget=budget)
    result = await fathom.asolve(model, "?", strategy=SPEC, budget=budget)
    assert result.answer == "7"
    assert {candidate.answer for candidate in result.receipt.candidates} == {"7"}
    cut = [t for t in result.trajectories if t.reason == "weak"]
    assert cut
    assert all(t.answer is None and 8 <= t.depth <= 20 for t in cut)
    assert all(t.depth > LONG for t in result.trajectories if t.reason != "weak")
    spent = result.receipt.spent
    assert spent.tokens == sum(t.depth for t in result.trajectories) == spent.tokens_by_role["sample"]
    assert spent.tokens <= plain.receipt.spent.tokens - len(cut) * (LONG - 20)
    assert spent.width == 32
    assert any("too unsure" in note for note in result.receipt.notes)
    assert model.engine.running == 0


async def test_agreement_ends_it_early_as_it_does_any_vote(scripted: Make) -> None:
    model = scripted(wavering, probability=probability, room=4)
    result = await fathom.asolve(model, "?", strategy=SPEC.replace("never", "outcome"))
    assert (result.answer, result.receipt.stopped) == ("7", StopReason.DECIDED)
    assert 8 <= result.receipt.spent.width < 32


async def test_where_only_the_unsure_are_there_they_answer(scripted: Make) -> None:
    """A sample that is cut is concluded after all where nobody else has an answer yet."""
    core = Vote(width=3, stop="never", confidence="tail", warmup=1).begin(Terms())
    core.ask(3)
    core.tell(Trajectory(0, reason="stop", finished=True))
    core.ask(3)
    core.tell(Trajectory(0, reason="stop", finished=True))
    (grow,) = core.ask(3)
    assert isinstance(grow, Grow)
    core.tell(cut(1))
    assert core.ask(0) == [Conclude((1,))]
    core.tell(replace(cut(1), answer="3", key="3"))
    assert core.standing.answer == "3"


@pytest.mark.parametrize("limit", [40, 130, 700])
async def test_tokens_are_never_exceeded_and_still_end_in_an_answer(scripted: Make, limit: int) -> None:
    model = scripted(wavering, probability=probability, room=4)
    result = await fathom.asolve(model, "?", strategy=SPEC, budget=Budget(tokens=limit))
    assert result.receipt.spent.tokens <= limit
    assert result.answer in {"7", "0", "1", "2"}


async def test_what_the_engine_lacks_is_refused_before_anything_is_spent(scripted: Make) -> None:
    model = scripted(wavering)
    model.engine._traits = EngineTraits(model="mute")
    with pytest.raises(CapabilityError, match=r"top-logprobs"):
        await fathom.asolve(model, "?", strategy="vote(confidence=tail)")


@pytest.mark.parametrize(
    "options", ["confidence=high", "window=0", "warmup=0", "keep=0", "keep=1.1", "stop=certain, confidence=tail"]
)
def test_options_that_make_no_sense_are_refused(options: str) -> None:
    with pytest.raises(SpecError):
        STRATEGIES.build(f"vote({options})")


@pytest.mark.parametrize("spec", ["vote", "vote(width=16, confidence=tail)", "vote(confidence=bottom, keep=0.1)"])
def test_it_is_written_as_it_is_read(spec: str) -> None:
    assert str(STRATEGIES.build(spec)) == spec
    assert STRATEGIES.build("vote(confidence=none)") == STRATEGIES.build("vote")
