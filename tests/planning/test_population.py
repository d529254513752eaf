"""Votes on a population of questions: the sums against sampling, and when more is not worth it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.planning.population import Kind, Population, Seen

shares = st.floats(0.0, 1.0, allow_nan=False)


def mean(chances: Sequence[float]) -> float:
    """Of a number that is 1, 2, … with these chances."""
    assert sum(chances) == pytest.approx(1.0)
    return sum(n * chance for n, chance in enumerate(chances, 1))


@st.composite
def populations(draw: st.DrawFn) -> Population:
    kinds = []
    for _ in range(draw(st.integers(1, 4))):
        right = draw(shares)
        kinds.append(Kind(draw(st.floats(0.1, 1.0)), right, draw(shares) * (1.0 - right)))
    return Population(tuple(kinds))


def drawn(kind: Kind, n: int, rng: random.Random) -> list[str]:
    """n answers: the right one, the rival, or one that never comes again."""
    places = (rng.random() for _ in range(n))
    return [
        "right" if u < kind.right else "rival" if u < kind.right + kind.rival else f"stray {i}"
        for i, u in enumerate(places)
    ]


def leader(answers: list[str], rng: random.Random) -> str:
    counts = Counter(answers)
    most = max(counts.values())
    return rng.choice([answer for answer, count in counts.items() if count == most])


def test_accuracy_and_forecasts_are_what_sampling_says() -> None:
    rng = random.Random(random.SystemRandom().random())
    population = Population((Kind(2, 0.45, 0.25), Kind(1, 0.2, 0.4), Kind(1, 0.9, 0.05)))
    right = dict.fromkeys((1, 5, 9), 0)
    now: dict[Seen, list[bool]] = {}
    then: dict[Seen, list[bool]] = {}
    rounds = 60_000
    for _ in range(rounds):
        kind = rng.choices(population.kinds, [kind.weight for kind in population.kinds])[0]
        answers = drawn(kind, 9, rng)
        for n in right:
            right[n] += leader(answers[:n], rng) == "right"
        seen = Seen.of(sorted(Counter(answers[:4]).values(), reverse=True), 4)
        now.setdefault(seen, []).append(leader(answers[:4], rng) == "right")
        then.setdefault(seen, []).append(leader(answers, rng) == "right")
    for n, count in right.items():
        assert population.accuracy(n) == pytest.approx(count / rounds, abs=0.02)
    for seen, hits in now.items():
        if len(hits) > 2500:  # six standard deviations of their share are less than what is allowed
            forecast = population.forecast(seen, 9)
            assert forecast.now == pytest.approx(sum(hits) / len(hits), abs=0.06)
            assert forecast.then == pytest.approx(sum(then[seen]) / len(hits), abs=0.06)


def test_the_likeliest_answer_is_forecast_as_sampling_says() -> None:
    """It is the one that leads five samples that nobody sees, has one vote like others, and wins ties."""
    rng = random.Random(6)
    population = Population((Kind(2, 0.45, 0.25), Kind(1, 0.2, 0.4), Kind(1, 0.9, 0.05)), likeliest=5)
    right = dict.fromkeys((1, 2, 3, 9), 0)
    now: dict[Seen, list[bool]] = {}
    then: dict[Seen, list[bool]] = {}
    rounds = 60_000
    for _ in range(rounds):
        kind = rng.choices(population.kinds, [kind.weight for kind in population.kinds])[0]
        likeliest = leader(drawn(kind, 5, rng), rng)
        answers = ["the likeliest" if likeliest.startswith("stray") else likeliest, *drawn(kind, 8, rng)]

        def won(n: int, answers: list[str] = answers) -> bool:
            counts = Counter(answers[:n])
            most = max(counts.values())
            return (answers[0] if counts[answers[0]] == most else leader(answers[:n], rng)) == "right"

        for n in right:
            right[n] += won(n)
        counts = Counter(answers[:4])
        seen = Seen.of(sorted(counts.values(), reverse=True), 4, counts[answers[0]])
        now.setdefault(seen, []).append(won(4))
        then.setdefault(seen, []).append(won(9))
    for n, count in right.items():
        assert population.accuracy(n, greedy=True) == pytest.approx(count / rounds, abs=0.02)
    assert {seen.likeliest for seen, hits in now.items() if len(hits) > 2500} >= {1, 2}
    for seen, hits in now.items():
        if len(hits) > 2500:
            forecast = population.forecast(seen, 9)
            assert forecast.now == pytest.approx(sum(hits) / len(hits), abs=0.06), seen
            assert forecast.then == pytest.approx(sum(then[seen]) / len(hits), abs=0.06), seen


def test_stopping_by_expected_gain_costs_less_than_half_and_hardly_any_accuracy() -> None:
    rng = random.Random(random.SystemRandom().random())
    population = Population(tuple(Kind(1, s / 10, 0.3 * (1 - s / 10)) for s in range(11)))
    stopped = full = taken = 0
    for _ in range(3000):
        answers = drawn(rng.choice(population.kinds), 16, rng)
        for n in range(1, 17):
            seen = Seen.of(sorted(Counter(answers[:n]).values(), reverse=True), n)
            if not population.goes_on(seen, 16, 0.01):
                break
        taken += n
        stopped += leader(answers[:n], rng) == "right"
        full += leader(answers, rng) == "right"
    assert taken <= 0.6 * 16 * 3000
    assert stopped >= full - 0.03 * 3000
    assert mean(population.draws(16, 0.01)) == pytest.approx(taken / 3000, abs=0.4)


@given(populations(), st.integers(1, 12), st.integers(0, 4))
@settings(max_examples=60)
def test_probabilities_stay_probabilities(population: Population, width: int, more: int) -> None:
    assert 0 <= population.accuracy(width) <= population.coverage(width) + 1e-9 <= 1 + 1e-9
    assert 0 <= population.accuracy(width, greedy=True) <= 1 + 1e-9
    assert population.accuracy(1, greedy=True) == pytest.approx(population.accuracy(1))  # one that is worth no more
    assert mean(population.draws(width, 0.01, greedy=True)) <= width + 1e-6
    assert population.coverage(width) <= population.coverage(width + more) + 1e-12
    rows = population.agreement(3, width + 3)
    assert sum(often for _, often, _, _ in rows) == pytest.approx(1.0, abs=0.05)
    assert all(0 <= share <= 1 + 1e-9 for _, *shares in rows for share in shares)
    often, right = population.unanimous(width)
    assert 0 <= often <= 1 + 1e-9
    assert 0 <= right <= 1
    assert 0 <= population.unfound(more, width + more) <= 1
    assert 1 - 1e-6 <= mean(population.attempts(width)) <= width + 1e-6


def test_agreement_ends_a_vote_and_a_close_one_goes_on() -> None:
    population = Population(tuple(Kind(1, s / 10, 0.3 * (1 - s / 10)) for s in range(11)))
    assert not population.goes_on(Seen(4, 4, 0), 16, 0.01)
    assert population.goes_on(Seen(4, 2, 2), 16, 0.01)
    assert not population.goes_on(Seen(16, 8, 8), 16, 0.01)
    assert population.forecast(Seen(6, 6, 0), 16).now > population.forecast(Seen(6, 3, 2), 16).now


def test_a_population_of_samples_gives_their_shares() -> None:
    population = Population.of([(16, [], 16), (16, [], 16), (0, [8, 8], 16), (8, [4, 4], 16)])
    assert population.accuracy(1) == pytest.approx(0.625, abs=0.01)
    assert len(population.kinds) == 3
    with pytest.raises(ValueError, match="weights"):
        Population(())
