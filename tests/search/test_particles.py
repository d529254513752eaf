"""The particle filter against the exact posterior of small trees, and the facts that it rests on."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from synthetic import Scorer, World

from fathom.records import StopReason
from fathom.search.base import Terms
from fathom.search.particles import Particles, ParticlesSearch, annealed, effective_size, log_sum, systematic

LETTERS, ODDS, DEPTH = "ab", (2.0, 1.0), 3
weights = st.lists(st.floats(-30, 30), min_size=1, max_size=40)


def potential(text: str) -> float:
    """Scores that rise and fall on the way, so that a product of them would be far from the last one."""
    return random.Random(f"worth of {text}").choice([0.05, 0.2, 0.6, 0.95])


def ends(text: str) -> bool:
    return text == "b"


def leaves() -> dict[str, float]:
    """Each leaf with its probability under the model."""
    share = {letter: odds / sum(ODDS) for letter, odds in zip(LETTERS, ODDS, strict=True)}
    found = {"b": share["b"]}
    for rest in itertools.product(LETTERS, repeat=DEPTH - 1):
        text = "a" + "".join(rest)
        found[text] = math.prod(share[letter] for letter in text)
    return found


def run(seed: int, **options: object) -> ParticlesSearch:
    core = Particles(width=6, judge=Scorer(), **options).begin(Terms(seed=seed))  # type: ignore[arg-type]
    World(potential, depth=DEPTH, letters=LETTERS, odds=ODDS, seed=seed, ends=ends).run(core)
    return core


@pytest.mark.parametrize("options", [{}, {"ess": 1.0}, {"ess": 0.0}, {"ess": 0.9, "anneal": True, "steps": 4}], ids=str)
def test_the_estimates_are_unbiased_against_the_enumerated_posterior(options: dict[str, object]) -> None:
    """E[mean weight of the particles at a leaf] is p(leaf) · ψ(leaf), exactly, for every leaf."""
    exact = {leaf: p * potential(leaf) for leaf, p in leaves().items()}
    assert math.isclose(sum(leaves().values()), 1)
    runs = 1500
    sums = dict.fromkeys(exact, 0.0)
    squares = dict.fromkeys(exact, 0.0)
    for seed in range(runs):
        core = run(seed, **options)
        here = dict.fromkeys(exact, 0.0)
        for id, w in core.population:
            here[core.trajectories[id].text] += math.exp(w) / core.width
        assert math.isclose(sum(here.values()), math.exp(core.log_evidence))
        for leaf, mass in here.items():
            sums[leaf] += mass
            squares[leaf] += mass * mass
    for leaf, mass in exact.items():
        mean = sums[leaf] / runs
        error = math.sqrt(max(1e-12, squares[leaf] / runs - mean * mean) / runs)
        assert abs(mean - mass) < 5 * error, leaf


def test_many_particles_come_to_the_posterior() -> None:
    exact = {leaf: p * potential(leaf) for leaf, p in leaves().items()}
    core = Particles(width=4000, judge=Scorer()).begin(Terms(seed=5))
    World(potential, depth=DEPTH, letters=LETTERS, odds=ODDS, seed=5, ends=ends).run(core)
    votes = {c.answer: c.votes / 4000 for c in core.standing.candidates}
    for leaf, mass in exact.items():
        assert abs(votes.get(leaf, 0.0) - mass / sum(exact.values())) < 0.05
    assert core.standing.answer == max(votes, key=votes.__getitem__)


@given(weights)
def test_the_effective_size_is_one_over_the_sum_of_squared_shares(logs: list[float]) -> None:
    total = sum(map(math.exp, logs))
    shares = [math.exp(w) / total for w in logs]
    assert effective_size(logs) == pytest.approx(1 / sum(p * p for p in shares))
    assert 1 - 1e-9 <= effective_size(logs) <= len(logs) + 1e-9
    assert effective_size([w + 700 for w in logs]) == pytest.approx(effective_size(logs))
    assert log_sum(logs) == pytest.approx(math.log(total))


@given(weights, st.floats(0, 1, exclude_max=True))
@example([0.0] * 11 + [1.0, 0.0], 1 - 2**-53)
def test_systematic_resampling_draws_as_many_and_each_by_its_share(logs: list[float], offset: float) -> None:
    counts = systematic(logs, offset)
    n, total = len(logs), log_sum(logs)
    assert sum(counts) == n
    for count, w in zip(counts, logs, strict=True):
        share = n * math.exp(w - total)
        assert math.floor(share - 1e-6) <= count <= math.ceil(share + 1e-6)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=8))
@settings(max_examples=20)
def test_systematic_resampling_draws_each_by_its_share_on_average(logs: list[float]) -> None:
    n, total, offsets = len(logs), log_sum(logs), 2000
    drawn = [systematic(logs, (k + 0.5) / offsets) for k in range(offsets)]
    for i, w in enumerate(logs):
        assert sum(counts[i] for counts in drawn) / offsets == pytest.approx(n * math.exp(w - total), abs=2e-3)


@given(weights, st.floats(0, 1))
def test_annealing_flattens_by_the_effective_size_and_ever_less_on_the_way(logs: list[float], progress: float) -> None:
    flat = annealed(logs, progress)
    temperature = max(1.0, len(logs) / effective_size(logs) * (1 - progress))
    assert flat == pytest.approx([w / temperature for w in logs])
    assert effective_size(flat) >= effective_size(logs) - 1e-9
    assert effective_size(annealed(logs, 0.0)) >= effective_size(flat) - 1e-9
    assert annealed(logs, 1.0) == logs


def test_annealing_keeps_more_lines_of_thought_alive() -> None:
    def survivors(anneal: bool) -> int:
        kept = 0
        for seed in range(40):
            core = Particles(width=16, judge=Scorer(), anneal=anneal, steps=8).begin(Terms(seed=seed))
            world = World(potential, depth=5, letters=LETTERS, odds=ODDS, seed=seed)
            world.run(core)
            kept += len({t.parent for t in core.trajectories.values() if t.parent is not None})
        return kept

    assert survivors(True) > 1.1 * survivors(False)


def test_without_resampling_every_particle_goes_its_own_way_and_with_it_the_poor_are_dropped() -> None:
    alone = run(3, ess=0.0)
    parents = [t.parent for t in alone.trajectories.values() if t.parent is not None]
    assert len(parents) == len(set(parents))
    crowded = [run(seed, ess=1.0) for seed in range(20)]
    assert any(
        len(ps) > len(set(ps))
        for ps in ([t.parent for t in core.trajectories.values() if t.parent is not None] for core in crowded)
    )


def test_scores_of_zero_leave_an_answer_all_the_same() -> None:
    core = Particles(width=6, judge=Scorer()).begin(Terms(seed=1))
    World(lambda text: 0.0, depth=DEPTH).run(core)
    assert core.standing.answer is not None


@pytest.mark.parametrize("after", range(1, 9))
def test_wound_down_anywhere_the_weights_are_those_of_the_last_potential(after: int) -> None:
    """Without resampling a particle's weight is the potential of its answer, wherever the run was cut."""
    core = Particles(width=6, ess=0.0, judge=Scorer()).begin(Terms(seed=4))
    world = World(potential, depth=6, letters=LETTERS, odds=ODDS, seed=4)
    for _ in range(after):
        world.once(core)
    core.wind_down()
    world.run(core)
    assert len(core.population) == 6
    for id, w in core.population:
        assert core.trajectories[id].answer is not None
        assert w == pytest.approx(math.log(potential(core.trajectories[id].text)))
    assert core.stopped is not StopReason.VERIFIED
