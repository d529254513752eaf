"""One search, then another on what it found."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from exact_time import exactly_timed
from hypothesis import given
from hypothesis import strategies as st
from rehearsal import Scores, play, said

import fathom
from fathom import StopReason, Trajectory
from fathom.api import strategy_of
from fathom.costs import Costs
from fathom.errors import CapabilityError, SpecError, UsageError
from fathom.judges.exact import Exact
from fathom.language.engines.base import Prompt
from fathom.language.engines.scripted import Latency
from fathom.language.model import LanguageModel
from fathom.planning.auto import Auto
from fathom.planning.cost import CostModel
from fathom.planning.outlook import Outlook
from fathom.planning.plan import Candidate
from fathom.planning.prior import prior
from fathom.search import Beam, BestOfN, Cascade, Ensemble, First, Fuse, Mcts, Refine, Strategy, Then, Vote
from fathom.search.base import Drop, Grow, Judge, Lost, Search, Terms

Make = Callable[..., LanguageModel]


def answering(answers: list[str]) -> Callable[[Grow, int, Search], Trajectory]:
    return lambda grow, id, core: said(id, answers[id % len(answers)])


@pytest.mark.parametrize("spec", ["vote(width=8) | refine(rounds=2)", "first | vote(width=3) | mcts(width=4)"])
def test_a_pipeline_is_said_and_written_as_it_is_read(spec: str) -> None:
    assert str(strategy_of(spec)) == spec
    assert strategy_of(spec) == strategy_of(str(strategy_of(spec)))
    assert str(Vote(width=8) | Refine(rounds=2)) == "vote(width=8) | refine(rounds=2)"
    left, right = (First() | Vote()) | Mcts(), First() | (Vote() | Mcts())
    assert isinstance(left, Then)
    assert isinstance(right, Then)
    assert left.parts == right.parts == (First(), Vote(), Mcts())


@given(st.lists(st.sampled_from("abc"), min_size=12, max_size=12), st.randoms(use_true_random=False))
def test_the_second_search_starts_from_the_best_draft_of_the_first(answers: list[str], rng: random.Random) -> None:
    core = (Vote(width=4, stop="never") | Refine(rounds=1)).begin(Terms())
    asked = play(core, answering(answers), shuffle=rng)
    (revision,) = [action for action in asked if isinstance(action, Grow) and action.sources]
    assert revision.ids == (4,)  # the numbering goes on
    voted = max("abc", key=lambda letter: answers[:4].count(letter))
    assert answers[:4].count(core.trajectories[revision.sources[0]].answer or "") == answers[:4].count(voted)
    assert sorted(core.trajectories) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("after", "first_acts"),
    [
        (BestOfN(width=2, judge=Scores({"a": 0.5, "b": 0.4})), Judge),
        (Refine(judge=Scores({"a": 0.5, "b": 0.4})), Judge),
        (Mcts(width=2, judge=Scores({"a": 0.5, "b": 0.4})), Judge),
        (Fuse(width=3, k=2), Grow),
        (Vote(width=2), Grow),
    ],
)
def test_drafts_are_judged_first_or_count_or_are_built_on(after: Strategy, first_acts: type) -> None:
    drafts = (said(3, "a"), said(1, "b"))
    core = after.begin(Terms(drafts=drafts))
    assert core.standing.answer in ("a", "b")
    actions = core.ask(1)
    assert type(actions[0]) is first_acts
    if first_acts is Judge:
        assert sorted(id for action in actions if isinstance(action, Judge) for id in action.ids) == [1, 3]
    assert all(id >= 4 for action in actions if isinstance(action, Grow) for id in action.ids)


def test_what_is_verified_ends_the_whole_and_what_is_decided_goes_on() -> None:
    accepting = Scores({"right": 1.0})
    core = (BestOfN(width=3, judge=accepting) | Vote(width=5)).begin(Terms())
    play(core, answering(["wrong", "right", "wrong"]), room=1)
    assert core.stopped is StopReason.VERIFIED
    assert (core.standing.answer, len(core.trajectories)) == ("right", 2)
    core = (First(width=2) | Refine(judge=accepting)).begin(Terms())
    play(core, answering(["wrong", "wrong", "right"]), room=2)
    assert core.stopped is StopReason.VERIFIED
    assert core.standing.answer == "right"


def test_what_the_first_search_still_has_out_is_cut_and_counts_no_more() -> None:
    core = (First(width=3) | Vote(width=2, stop="never")).begin(Terms())
    (grow,) = core.ask(8)
    assert grow == Grow((0, 1, 2))
    core.tell(said(1, "fast"))
    actions = core.ask(8)
    assert actions == [Drop((0, 2)), Grow((3, 4))]
    core.tell(said(0, "late"))
    assert core.ask(8) == [Drop((0,))]
    core.tell(said(3, "fast"))
    core.tell(said(4, "other"))
    assert {c.answer: c.votes for c in core.standing.candidates} == {"fast": 2, "other": 1}


@pytest.mark.parametrize("after", [Vote(width=2), Cascade(models=("b",)), Ensemble(models=("b",)), Mcts(), Fuse()])
def test_no_number_is_given_twice_and_what_comes_late_is_nobodys(after: Strategy) -> None:
    core = (First(width=5) | after).begin(Terms())
    core.ask(8)
    core.tell(said(1, "fast"))
    grown = [id for action in core.ask(8) if isinstance(action, Grow) for id in action.ids]
    assert not grown or min(grown) == 5
    core.tell(said(4, "late"))
    assert all(candidate.answer == "fast" for candidate in core.standing.candidates)


@pytest.mark.parametrize("after", [Cascade(models=("b",)), Ensemble(models=("b",))])
def test_searches_over_several_models_start_afresh(after: Strategy) -> None:
    core = (Vote(width=3, stop="never") | after).begin(Terms(width=5))
    asked = play(core, answering(["old", "old", "old", "new", "newer"]), room=3)
    assert [len(a.ids) for a in asked if isinstance(a, Grow)] == [3, 1, 1]
    assert {c.answer for c in core.standing.candidates} <= {"new", "newer"}


def test_a_limit_on_trajectories_holds_for_all_parts_together() -> None:
    core = (Vote(width=3, stop="never") | Refine(rounds=9, width=2)).begin(Terms(width=5))
    play(core, answering(list("abcdefgh")))
    assert len(core.trajectories) == 5
    core = (Vote(width=5, stop="never") | Refine()).begin(Terms(width=5))
    play(core, answering(list("abcab")))
    assert (len(core.trajectories), core.stopped) == (5, StopReason.EXHAUSTED)


def test_steps_of_a_tree_are_no_trajectories_of_their_own() -> None:
    """Four lines of thought of four steps each leave twelve of sixteen to the revisions."""
    judge = Scores({})
    core = (Beam(width=4, branching=2, judge=judge) | Refine(rounds=2, judge=judge)).begin(Terms(width=16))

    def write(grow: Grow, id: int, core: Search) -> Trajectory:
        if grow.sources:
            return said(id, f"revision {id}")
        depth = 1 + (0 if grow.parent is None else core.trajectories[grow.parent].depth)
        answer = f"draft {id}" if depth == 4 else None
        return replace(said(id, answer, depth, finished=depth == 4), text=f"so far {id}", reason="step")

    asked = play(core, write, room=8)
    grown = [action for action in asked if isinstance(action, Grow)]
    assert sum(len(action.ids) for action in grown) > 16
    assert sum(len(action.ids) for action in grown if action.parent is None and not action.sources) == 4
    assert sum(len(action.ids) for action in grown if action.sources) == 2


def test_what_was_not_begun_for_want_of_room_does_not_count() -> None:
    core = (Vote(width=3, stop="never") | Vote(width=9, stop="never")).begin(Terms(width=8))
    (grow,) = core.ask(8)
    core.tell_lost(Lost(grow.ids))
    asked = play(core, answering(list("abcdefghijkl")))
    assert sum(len(action.ids) for action in asked if isinstance(action, Grow)) == 8


OUTLOOK = Outlook({0: Candidate(CostModel(Costs("m")), prior(Costs("m")))}, {"width": 10})


def planned(briefed: bool = True) -> Search:
    core = (Vote(width=6, stop="never") | Auto(worth=0.0)).begin(Terms(width=10))
    if briefed:
        core.brief([None, OUTLOOK])
    return core


def test_auto_has_what_the_search_before_it_has_left() -> None:
    core = planned()
    play(core, answering(list("aabbccddee")), until=lambda core: len(core.trajectories) == 10)
    assert sorted(core.trajectories) == list(range(10))
    assert sum(candidate.votes for candidate in core.standing.candidates) == 10, "drafts vote too"


@pytest.mark.parametrize("at", [2, 6, 8])
@pytest.mark.parametrize("first", ["restored", "briefed"])
def test_auto_goes_on_in_a_pipeline_that_is_resumed(at: int, first: str) -> None:
    answers = random.SystemRandom().sample("abc" * 4, 12)  # none so often that auto sees the end of it before
    half = planned()
    out: list[int] = []
    while len(half.trajectories) < at:
        out += [id for action in half.ask(1 - len(out)) if isinstance(action, Grow) for id in action.ids]
        half.tell(said(out[0], answers[out.pop(0)]))
    saved = pickle.loads(pickle.dumps(half.state()))
    resumed = planned(briefed=first == "briefed")
    resumed.restore(saved)
    if first == "restored":
        resumed.brief([None, OUTLOOK])
    play(half, answering(answers), room=1)
    play(resumed, answering(answers), room=1)
    assert resumed.trajectories == half.trajectories
    assert resumed.standing == half.standing
    assert resumed.standing.answer is not None


async def test_drafts_are_voted_and_the_winner_is_refined_until_it_passes(scripted: Make, fresh: int) -> None:
    def script(prompt: Prompt, rng: random.Random) -> str:
        revision = "correct what is wrong" in prompt.messages[-1].content
        return f"\\boxed{{{fresh if revision and rng.random() < 0.5 else rng.randrange(3)}}}"

    model = scripted(script, room=4)
    verify = Exact(reference=str(fresh))
    result = await fathom.asolve(model, "?", strategy="vote(width=6) | refine(rounds=30)", verify=verify)
    assert result.answer == str(fresh) or result.receipt.stopped is StopReason.CONVERGED
    assert result.receipt.valid is (result.answer == str(fresh))
    assert model.engine.running == 0


@exactly_timed
async def test_a_part_that_decided_leaves_nothing_running_for_the_next(scripted: Make) -> None:
    def script(prompt: Prompt, rng: random.Random) -> str:
        brief = "correct what is wrong" in prompt.messages[-1].content or rng.random() < 0.4
        return "\\boxed{5}" if brief else "so " * 500 + "\\boxed{6}"

    model = scripted(script, room=6, latency=Latency(token=0.002))
    result = await fathom.asolve(model, "?", strategy="first(width=6) | refine", seed=3)
    assert result.answer == "5"
    assert result.receipt.stopped is StopReason.CONVERGED
    assert result.receipt.spent.tokens < 500
    assert model.engine.running == 0
    result = await fathom.asolve(model, "?", strategy="vote(stop=never) | refine", within=0.2)
    assert result.answer in ("5", "6")
    assert result.receipt.stopped is StopReason.DEADLINE
    assert model.engine.running == 0


async def test_what_any_part_needs_or_cannot_be_is_refused_at_once(scripted: Make) -> None:
    model = scripted({"1": 1})
    for spec in ("vote | refine(rounds=0)", "vote | fuse(width=0)", "vote |", "vote | thought"):
        with pytest.raises(UsageError):
            await fathom.asolve(model, "?", strategy=spec)
    with pytest.raises(SpecError, match="judge"):
        await fathom.asolve(model, "?", strategy="vote | first", verify=Exact(reference="1"))
    mute = scripted({"1": 1})
    mute.engine._traits = fathom.language.engines.base.EngineTraits(model="mute")  # type: ignore[attr-defined]
    with pytest.raises(CapabilityError, match="logprobs"):
        await fathom.asolve(mute, "?", strategy="vote | mcts")
    assert model.engine.running == 0
