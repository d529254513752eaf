"""What the field holds for true, and every search must keep: perfect judges win, constant ones cost nothing, no limit
is passed, a seed fixes the tree, a search can be saved and resumed, and cancelled anywhere it leaves nothing behind."""

from __future__ import annotations

import asyncio
import pickle
import random
from collections.abc import Callable, Sequence
from typing import ClassVar

import pytest
from exact_time import exactly_timed
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import Scorer, World

import fathom
from fathom import Budget, Problem, Result, Run
from fathom.answers import expressions
from fathom.api import strategy_of
from fathom.errors import EngineError, UpstreamError
from fathom.judges.base import Candidate, Verdict
from fathom.language.engines.base import Prompt
from fathom.language.engines.scripted import Latency
from fathom.language.model import LanguageModel
from fathom.reasoner import Reasoner
from fathom.search import STRATEGIES, BestOfN, Strategy
from fathom.search.base import Search, Terms
from fathom.team import Team

Make = Callable[..., LanguageModel]

UNJUDGED = [
    "direct",
    "vote(width=4)",
    "vote(width=4, confidence=tail)",
    "first(width=4)",
    "fuse(width=3, rounds=1)",
    "ensemble(models=[b], width=4)",
    "cascade(models=[b], width=4, confident=1)",
]
JUDGED = [
    "best-of-n(width=4)",
    "halving(width=4, units=2)",
    "beam(width=4, branching=2, select=best)",
    "dvts(width=4, branching=2, select=best)",
    "rebase(width=4, select=best)",
    "particles(width=4, select=best)",
    "mcts(width=9)",
    "refine(rounds=2, width=2)",
]
PIPELINES = [
    "best-of-n(width=4) | refine(rounds=2)",
    "vote(width=3, stop=never) | fuse(width=3, k=2, rounds=1) | mcts(width=4)",
    "first(width=3) | cascade(models=[b], width=4, confident=1)",
    "best-of-n(width=3) | ensemble(models=[b], width=4)",
    "vote(width=3, stop=never) | auto(width=4)",
    "auto(width=4) | refine(rounds=2)",
]
PLANNED = {"auto"}  # which runs one of the others
every = pytest.mark.parametrize("spec", [*UNJUDGED, *JUDGED, *PLANNED, *PIPELINES])


def test_every_search_is_tried_here_and_every_one_that_asks_a_judge_with_one() -> None:
    def named(specs: list[str]) -> set[str]:
        return {spec.partition("(")[0] for spec in specs}

    assert named(UNJUDGED + JUDGED) == {entry.name for entry in STRATEGIES} - PLANNED
    ask = {entry.name for entry in STRATEGIES if any(option.name == "judge" for option in entry.options)}
    assert named(JUDGED) == ask - PLANNED


def begun(spec: str, seed: int = 0) -> Search:
    return strategy_of(spec).judged_by_default(Scorer()).begin(Terms(seed=seed))


def value(text: str) -> float:
    """The words in the order of a dictionary: to have an earlier a is worth more than all that can follow."""
    return sum(2.0 ** -(i + 1) for i, letter in enumerate(text) if letter == "a")


@pytest.mark.parametrize("spec", [*JUDGED, "best-of-n(width=4) | refine(rounds=2)", "vote(width=4) | mcts(width=4)"])
@given(seed=st.integers(0, 10**6), shuffle=st.integers())
@settings(max_examples=12)
def test_a_perfect_judge_finds_the_best_answer_that_was_drawn(spec: str, seed: int, shuffle: int) -> None:
    world = World(value, seed=seed, letters="ab", odds=(1, 2), shuffle=random.Random(shuffle))
    core = world.run(begun(spec, seed))
    drawn = [t.answer for t in core.trajectories.values() if t.answer is not None]
    assert value(core.standing.answer or "") == max(map(value, drawn))


@every
def test_a_constant_judge_does_no_worse_than_chance(spec: str) -> None:
    """Three leaves in four are right, and every search must find its answer among them as often."""
    right, runs = 0, 160
    for seed in range(runs):
        world = World(lambda text: 0.5, depth=3, seed=seed, letters="xy", odds=(3, 1))
        right += (world.run(begun(spec, seed)).standing.answer or "").endswith("x")
    assert right >= 0.75 * runs - 4 * (runs * 0.75 * 0.25) ** 0.5


@every
@given(seed=st.integers(0, 10**6), after=st.integers(0, 16), room=st.integers(1, 5))
@settings(max_examples=12)
def test_saved_in_the_middle_and_resumed_it_gives_the_same_end(spec: str, seed: int, after: int, room: int) -> None:
    """What is saved holds nothing of the reasoner, or it could not be pickled."""
    world, core = World(value, seed=seed), begun(spec, seed)
    for _ in range(after):
        if core.stopped is None:
            world.once(core, room)
    saved = pickle.loads(pickle.dumps(core.state()))
    rest, resumed = World(value, seed=seed, out=list(world.out), dropped=set(world.dropped)), begun(spec, seed)
    resumed.restore(saved)
    assert resumed.standing == core.standing
    world.run(core, room)
    rest.run(resumed, room)
    assert resumed.standing == core.standing
    assert resumed.trajectories == core.trajectories
    assert resumed.stopped == core.stopped


def wandering(prompt: Prompt, rng: random.Random) -> str:
    """Reasons in short steps and answers one of a few numbers."""
    if prompt.prefix_text.endswith("\\boxed{"):
        return f"{rng.randrange(5)}}}."
    steps = [f"So {rng.randrange(1000)} goes on with {rng.randrange(1000)}." for _ in range(rng.randrange(2, 4))]
    return "\n\n".join([*steps, f"The answer is \\boxed{{{rng.randrange(5)}}}."])


def run_of(
    make: Callable[[], LanguageModel], spec: str, budget: Budget, seed: int = 0
) -> tuple[Run, list[LanguageModel]]:
    """A run, with models for all that the strategy names."""
    strategy: Strategy = strategy_of(spec)
    models = [make() for _ in range(1 + len(getattr(strategy, "models", ())))]
    reasoner: Reasoner = Team(models) if len(models) > 1 else models[0]
    return Run(reasoner, Problem.of("?"), strategy, budget, seed=seed), models


@every
async def test_what_is_unfinished_is_concluded_and_never_returned_raw(scripted: Make, spec: str, fresh: int) -> None:
    def endless(prompt: Prompt, rng: random.Random) -> str:
        if prompt.prefix_text.endswith("\\boxed{"):
            return f"{fresh}}}."
        return "".join(f" raw{rng.randrange(100)}" for _ in range(500))

    run, _ = run_of(lambda: scripted(endless, room=4), spec, Budget(depth=7))
    result = await run.finish()
    assert result.answer == str(fresh)
    said = f"\\boxed{{{fresh}}}" if spec in PLANNED else f"The answer is \\boxed{{{fresh}}}"  # it may ask at once
    assert said in result.text
    assert [(c.answer, c.finished) for c in result.receipt.candidates] == [(str(fresh), False)]
    assert result.receipt.spent.tokens_by_role["conclude"] > 0


@pytest.mark.parametrize("spec", [*UNJUDGED, *JUDGED, *PIPELINES[:-2]])  # which reason before they answer
@pytest.mark.parametrize("lost", ["all", "some"])
async def test_why_conclusions_failed_is_told(scripted: Make, spec: str, lost: str) -> None:
    """Each trajectory grows, and then the model refuses to conclude it, as a server may whose key has run out."""

    def endless(prompt: Prompt, rng: random.Random) -> str:
        return "7}." if prompt.prefix_text.endswith("\\boxed{") else " on and on" * 100

    asked: set[int] = set()
    refused: set[int] = set()

    def fail(seed: int) -> EngineError | None:
        concludes = seed in asked and (lost == "all" or not refused)
        (refused if concludes else asked).add(seed)
        return UpstreamError("the key has run out", status=401) if concludes else None

    run, _ = run_of(lambda: scripted(endless, room=1, fail=fail), spec, Budget(depth=7))
    (ended,) = await asyncio.gather(run.finish(), return_exceptions=True)
    if lost == "all" or spec == "direct":  # where there is but one conclusion
        assert isinstance(ended, UpstreamError)
        assert str(ended).endswith("the key has run out")
    else:
        assert isinstance(ended, Result)
        assert sum("the key has run out" in note for note in ended.receipt.notes) == 1


@every
@pytest.mark.parametrize("limit", [{"tokens": 25}, {"tokens": 120}, {"calls": 3}, {"width": 2}, {"depth": 11}], ids=str)
async def test_no_limit_is_ever_passed_and_there_is_an_answer(scripted: Make, spec: str, limit: dict[str, int]) -> None:
    run, models = run_of(lambda: scripted(wandering, room=4), spec, Budget(**limit))  # type: ignore[arg-type]
    result = await run.finish()
    spent = result.receipt.spent
    for name, most in limit.items():
        assert getattr(spent, name) <= most
    assert result.answer in "01234"
    assert run.meter.tokens_left == limit.get("tokens", float("inf")) - spent.tokens
    assert not any(model.engine.running for model in models)  # type: ignore[attr-defined]


@every
async def test_the_same_seed_gives_the_same_tree(scripted: Make, spec: str) -> None:
    async def tree(seed: int) -> object:
        run, _ = run_of(lambda: scripted(wandering, room=4), spec, Budget(), seed)
        result = await run.finish()
        return [(t.id, t.parent, t.text) for t in result.trajectories], result.answer, result.receipt.candidates

    seed = random.SystemRandom().randrange(10**6)
    assert await tree(seed) == await tree(seed)
    assert spec == "direct" or await tree(seed) != await tree(seed + 10**6)


@every
@pytest.mark.parametrize("told", [0, 1, 3])
@exactly_timed
async def test_cancelled_anywhere_it_leaves_nothing_behind(scripted: Make, spec: str, told: int) -> None:
    slow = Latency(first=0.003, token=0.002)
    run, models = run_of(lambda: scripted(wandering, room=3, latency=slow), spec, Budget(tokens=10_000))

    def observe() -> None:
        if len(run.search.trajectories) >= told:
            task.cancel()

    task = asyncio.create_task(run.finish(observe))
    if not told:
        await asyncio.sleep(0.005)
        task.cancel()
    (ended,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError) or spec in ("direct", "first(width=4)")  # which may not get so far
    await asyncio.sleep(0)
    assert not any(model.engine.running for model in models)  # type: ignore[attr-defined]
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert run.meter.tokens_left == 10_000 - run.meter.spent.tokens, "what was leased is given back"


class Worth:
    """Scores by the way in which an answer is written."""

    name: ClassVar[str] = "worth"
    scores: ClassVar[dict[str, float]] = {"0.5": 0.2, "1/2": 0.3, "\\frac12": 0.1, "0.7": 0.45}

    async def judge(self, problem: str, candidates: Sequence[Candidate]) -> list[Verdict]:
        return [Verdict(self.scores[candidate.answer or ""]) for candidate in candidates]


async def test_a_weighted_vote_sums_scores_by_what_answers_mean(
    scripted: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expressions, "SECONDS", 60.0)  # that reading one may take on a busy machine
    strategy = BestOfN(width=40, judge=Worth(), weighted=True)
    result = await fathom.asolve(scripted(dict.fromkeys(Worth.scores, 1.0)), "?", strategy=strategy)
    sums = {False: 0.0, True: 0.0}
    for trajectory in result.trajectories:
        sums[trajectory.answer == "0.7"] += Worth.scores[trajectory.answer or ""]
    votes = {candidate.answer == "0.7": candidate.votes for candidate in result.receipt.candidates}
    assert votes == pytest.approx(sums)
    assert (result.answer == "0.7") == (sums[True] > sums[False])
