"""How fast an engine is now is told by its pieces, however they come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fathom
from fathom import Meter, Problem
from fathom.language.engines.base import EngineTraits, Finish, Pace, Piece
from fathom.language.model import LanguageModel
from fathom.language.prompts import FORMS, AnswerForm
from fathom.language.speed import Clock, Observer
from fathom.language.timing import LEAST_DRAG, MOST_DRAG, Habits, Timing

PACE = Pace(0.01, {1: 0.04, 4: 0.1, 16: 0.3})


def run(timing: Timing, lengths: list[int], drag: float, *, streamed: bool) -> None:
    """What a request shows whose choices become so long, every step by ``drag`` longer than measured."""
    clock = Clock(PACE)
    now = 100.0
    observer = Observer(timing, clock.tick(now, 0), streamed)
    now += drag * timing.unread * PACE.read_seconds
    timing.unread = 0
    for step in range(1, max(lengths) + 1):
        going = [index for index, length in enumerate(lengths) if length >= step]
        now += drag * PACE.step(len(going))
        mark = clock.tick(now, len(going))
        for index in going:
            ended = step == lengths[index]
            if streamed or ended:
                tokens = 1 if streamed else step
                observer.saw(Piece(index, tokens=tokens, finish=Finish.STOP if ended else None), mark)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=16).filter(lambda lengths: max(lengths) >= 40),
    st.floats(LEAST_DRAG, MOST_DRAG),
    st.integers(0, 200),
    st.booleans(),
)
def test_the_drag_is_found_whether_tokens_stream_or_come_together(
    lengths: list[int], drag: float, unread: int, streamed: bool
) -> None:
    timing = Timing(EngineTraits("m", None), FORMS[AnswerForm.SHORT], PACE, Habits())
    for _ in range(12):
        timing.unread = unread
        run(timing, lengths, drag, streamed=streamed)
    assert timing.habits.shown_drag == pytest.approx(drag, rel=0.12)


def test_a_few_tokens_that_come_with_the_reading_of_their_prompt_tell_nothing() -> None:
    timing = Timing(EngineTraits("m", None), FORMS[AnswerForm.SHORT], PACE, Habits())
    for _ in range(50):
        run(timing, [5, 3], 3.0, streamed=False)
    assert timing.habits.shown_drag is None


async def test_a_run_that_streams_nothing_shows_the_drag_too(embedded: LanguageModel) -> None:
    model = LanguageModel(embedded.engine)  # which has learned nothing yet
    await model.prepare()
    problem = Problem.of("Name the first twenty letters of the alphabet.")
    for known in (False, True):
        session = await model.open(problem, Meter())
        assert (session.costs[0].drag is not None) == known
        await session.aclose()
        if not known:
            await fathom.asolve(model, problem, strategy="direct(depth=60)")
