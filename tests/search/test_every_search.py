"""What the field holds for true, and every search must keep: perfect judges win, constant ones cost nothing, answers
are counted by meaning, and a line of thought that was cut is concluded."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rehearsal import Scores, play, said

import fathom
from fathom import Budget, Trajectory
from fathom.judges.base import Candidate, Verdict
from fathom.language.engines.base import Prompt
from fathom.language.model import LanguageModel
from fathom.search import STRATEGIES, BestOfN, Halving, Mcts, Refine, Strategy
from fathom.search.base import Grow, Search, Terms

Make = Callable[..., LanguageModel]

SPECS = [
    "direct",
    "vote(width=4)",
    "vote(width=4, confidence=tail)",
    "best-of-n(width=4)",
    "first(width=4)",
    "halving(width=4, units=2)",
    "beam(width=4, branching=2)",
    "dvts(width=4, branching=2)",
    "rebase(width=4)",
    "particles(width=4)",
    "mcts(width=5)",
    "refine(rounds=2)",
    "fuse(width=3, rounds=1)",
]
OF_TEAMS = {"ensemble", "cascade"}  # which vote; their own tests are beside this one
PLANNED = {"auto"}  # which runs one of the others


def test_every_search_is_tried_here() -> None:
    names = {entry.name for entry in STRATEGIES}
    assert {spec.partition("(")[0] for spec in SPECS} == names - OF_TEAMS - PLANNED


@pytest.mark.parametrize("spec", SPECS)
async def test_what_is_unfinished_is_concluded_and_never_returned_raw(scripted: Make, spec: str, fresh: int) -> None:
    def endless(prompt: Prompt, rng: random.Random) -> str:
        if prompt.prefix_text.endswith("\\boxed{"):
            return f"{fresh}}}."
        return "".join(f" raw{rng.randrange(100)}" for _ in range(500))

    result = await fathom.asolve(scripted(endless, room=4), "?", strategy=spec, budget=Budget(depth=7))
    assert result.answer == str(fresh)
    assert f"The answer is \\boxed{{{fresh}}}" in result.text
    assert [(c.answer, c.finished) for c in result.receipt.candidates] == [(str(fresh), False)]
    assert result.receipt.spent.tokens_by_role["conclude"] > 0


def judged(scores: dict[str, float]) -> list[Strategy]:
    judge = Scores(scores)
    return [BestOfN(width=9, judge=judge), Refine(rounds=3, width=2, judge=judge), Mcts(width=9, judge=judge)]


@given(
    st.lists(st.floats(0, 0.99), min_size=10, max_size=10, unique=True),
    st.sampled_from(range(3)),
    st.randoms(use_true_random=False),
)
def test_a_perfect_judge_finds_the_best_answer_that_was_drawn(
    worths: list[float], which: int, rng: random.Random
) -> None:
    scores = {str(answer): worth for answer, worth in enumerate(worths)}
    core = judged(scores)[which].begin(Terms(seed=rng.randrange(99)))
    play(core, lambda grow, id, core: said(id, rng.choice(list(scores))), shuffle=rng)
    drawn = [t.answer or "" for t in core.trajectories.values()]
    assert core.standing.answer == max(drawn, key=scores.__getitem__)


@pytest.mark.parametrize("which", range(4), ids=["best-of-n", "refine", "mcts", "halving"])
def test_a_constant_judge_does_no_worse_than_chance(which: int) -> None:
    constant = Scores(dict.fromkeys(["right", "wrong", ""], 0.5))
    strategies = [*judged(constant.scores), Halving(width=8, units=3, judge=constant)]
    runs, chance, right = 400, 0.6, 0
    rng = random.Random(random.SystemRandom().random())

    def write(grow: Grow, id: int, core: Search) -> Trajectory:
        return said(id, "right" if rng.random() < chance else "wrong", depth=grow.units or 10)

    for seed in range(runs):
        core = strategies[which].begin(Terms(seed=seed))
        play(core, write)
        right += core.standing.answer == "right"
    assert right >= chance * runs - 4 * (runs * chance * (1 - chance)) ** 0.5


class Worth:
    """Scores by the way in which an answer is written."""

    name: ClassVar[str] = "worth"
    scores: ClassVar[dict[str, float]] = {"0.5": 0.2, "1/2": 0.3, "\\frac12": 0.1, "0.7": 0.45}

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
        return [Verdict(self.scores[candidate.answer or ""]) for candidate in candidates]


async def test_a_weighted_vote_sums_scores_by_what_answers_mean(scripted: Make) -> None:
    strategy = BestOfN(width=40, judge=Worth(), weighted=True)
    result = await fathom.asolve(scripted(dict.fromkeys(Worth.scores, 1.0)), "?", strategy=strategy)
    sums = {False: 0.0, True: 0.0}
    for trajectory in result.trajectories:
        sums[trajectory.answer == "0.7"] += Worth.scores[trajectory.answer or ""]
    votes = {candidate.answer == "0.7": candidate.votes for candidate in result.receipt.candidates}
    assert votes == pytest.approx(sums)
    assert (result.answer == "0.7") == (sums[True] > sums[False])
