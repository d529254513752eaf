"""The first to finish decides, and nobody waits for the others."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from exact_time import exactly_timed
from hypothesis import given
from hypothesis import strategies as st
from rehearsal import play, said

import fathom
from fathom import StopReason
from fathom.errors import UsageError
from fathom.language.engines.base import Prompt
from fathom.language.engines.scripted import Latency
from fathom.language.model import LanguageModel
from fathom.search import First
from fathom.search.base import Terms

Make = Callable[..., LanguageModel]


@given(st.lists(st.sampled_from("abc"), min_size=6, max_size=6), st.integers(1, 6), st.randoms(use_true_random=False))
def test_it_takes_what_the_first_ones_said_whatever_the_order(answers: list[str], of: int, rng: random.Random) -> None:
    core = First(width=6, of=of).begin(Terms())
    came: list[str] = []

    def write(grow: object, id: int, core: object) -> fathom.Trajectory:
        came.append(answers[id])
        return said(id, answers[id])

    play(core, write, room=6, shuffle=rng)
    assert core.stopped is StopReason.DECIDED
    assert len(came) == of
    assert came.count(core.standing.answer or "") == max(map(came.count, came))


def test_what_was_cut_never_outvotes_what_finished() -> None:
    core = First(width=5, of=2).begin(Terms())
    play(core, lambda grow, id, core: said(id, "cut" if id < 4 else "whole", finished=id == 4), room=5)
    assert core.standing.answer == "whole"


@exactly_timed
async def test_nobody_waits_for_the_longest(scripted: Make, fresh: int) -> None:
    def script(prompt: Prompt, rng: random.Random) -> str:
        brief = rng.random() < 0.5
        return f"\\boxed{{{fresh}}}" if brief else "so " * 400 + "\\boxed{0}"

    model = scripted(script, latency=Latency(token=0.002), room=8)
    result = await fathom.asolve(model, "?", strategy="first(width=8)", seed=1)
    assert result.answer == str(fresh)
    assert result.receipt.stopped is StopReason.DECIDED
    assert result.receipt.spent.tokens < 400
    assert model.engine.running == 0


@pytest.mark.parametrize("spec", ["first(of=0)", "first(width=2, of=3)", "first(width=0)"])
async def test_what_cannot_be_is_refused(scripted: Make, spec: str) -> None:
    with pytest.raises(UsageError):
        await fathom.asolve(scripted({"1": 1}), "?", strategy=spec)
