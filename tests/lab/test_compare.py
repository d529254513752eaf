"""Models of different size on the same questions: the frontier and the exchange rate, on planted truth."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from fathom.errors import UsageError
from fathom.lab.compare import Contender, contenders, frontier
from fathom.lab.comparison_page import compared
from fathom.lab.pool import Pool
from fathom.lab.rates import Exchange, exchange
from fathom.lab.records import Asked, Terms, Verdicts, Written
from fathom.lab.scoring import Plays, Point
from fathom.lab.statistics import Interval
from fathom.lab.store import Store
from fathom.records import Spent

SAMPLES, QUESTIONS = 12, 60


def planted(
    directory: Path, model: str, parameters: float, chance: dict[int, float], name: str = "", **said: Any
) -> Path:
    """A sweep whose samples are right with the question's chance, 20 tokens each, wrong ones all different; each sample
    on as many questions as the chances come to, so that no luck makes a model better than it is.

    ``said`` are terms, or the ``ask``ed questions' text, or ``step_flops`` of a model whose size nobody knows.
    """
    rng = random.Random(f"{model} {random.SystemRandom().random()}")
    ask, step_flops = said.pop("ask", "{}?"), said.pop("step_flops", 0.0)
    facts = {"unit": "token", "parameters": parameters, "pace": {"read_seconds": 0.0, "step_seconds": {"1": 0.1}}}
    if step_flops:
        facts |= {"unit": "supervision step", "parameters": 0}
    given = {"model_hash": "", "engine": "e", "sampling": "", "prompts": "", "dataset": "d", "seed": 0, **said}
    place = directory / (name or model)
    with Store(place, write=True) as store:
        asked = [Asked(q, f"q{q}", ask.format(q), "1") for q in range(QUESTIONS)]
        sweep = store.begin(name or model, Terms(model, **given), asked, facts).id
        right = {s: systematic(chance, rng) for s in range(-1, SAMPLES)}
        for q in range(QUESTIONS):
            for s in range(-1, SAMPLES):
                answer = "1" if q in right[s] else f"no {rng.random()}"
                store.add(sweep, [Written(q, -1, s, answer, True, True, float(answer == "1"), 20, answer=answer)])
            store.charge(sweep, q, "samples", Spent(flops=20 * (SAMPLES + 1) * step_flops))
    return place


def systematic(chance: dict[int, float], rng: random.Random) -> set[int]:
    """Questions drawn with these chances, as many in all as the sum of the chances, to within one."""
    drawn, passed = set(), rng.random()
    for q in rng.sample(range(QUESTIONS), QUESTIONS):
        if int(passed + chance[q]) > int(passed):
            drawn.add(q)
        passed += chance[q]
    return drawn


def test_votes_of_a_small_model_reach_a_large_one_at_a_stated_rate(tmp_path: Path) -> None:
    small = planted(tmp_path, "small", 1e6, dict.fromkeys(range(QUESTIONS), 0.55))
    large = planted(tmp_path, "large", 4e6, dict.fromkeys(range(QUESTIONS), 0.85))
    found = contenders([large, small])
    assert [c.name for c in found] == ["small", "large"]
    rate = exchange(*found, "flops")
    assert rate is not None
    assert rate.rate is not None
    assert rate.to_larger is not None
    assert rate.held_out is not None
    assert rate.rate.value > 1
    assert 0.99 < rate.rate.low <= rate.rate.value <= rate.rate.high  # 1 where a resample needs no more
    assert rate.greedy.value < 0
    assert rate.greedy.signed in str(rate)
    assert rate.to_larger == pytest.approx(rate.rate.value / 4, rel=0.01)
    assert "times" in str(rate)
    assert exchange(*found, "dollars") is None
    text = compared(found, [rate], tmp_path / "page.html").read_text()
    assert str(rate).split(",")[0] in text.replace("&#x27;", "'")


def test_what_votes_cannot_reach_is_said_never_to_be(tmp_path: Path) -> None:
    small = planted(tmp_path, "small", 1e6, {q: 0.6 * (q % 2) for q in range(QUESTIONS)})
    large = planted(tmp_path, "large", 4e6, dict.fromkeys(range(QUESTIONS), 0.95))
    rate = exchange(*contenders([small, large]), "flops")
    assert rate is not None
    assert rate.rate is None
    assert "is not shown to match the greedy answer of large within the range" in str(rate)
    assert rate.best.value < 0


def test_on_the_frontier_is_what_no_cheaper_point_beats(tmp_path: Path) -> None:
    small = planted(tmp_path, "small", 1e6, dict.fromkeys(range(QUESTIONS), 0.55))
    large = planted(tmp_path, "large", 4e6, dict.fromkeys(range(QUESTIONS), 0.8))
    marks = frontier(contenders([small, large]), "seconds")
    for mark in marks:
        beaten = any(m.cost <= mark.cost and m.accuracy.value >= mark.accuracy.value and m is not mark for m in marks)
        assert not (
            mark.on_frontier and any(m.cost < mark.cost and m.accuracy.value >= mark.accuracy.value for m in marks)
        )
        assert mark.on_frontier or beaten


def test_only_the_same_questions_are_compared(tmp_path: Path) -> None:
    chance = dict.fromkeys(range(QUESTIONS), 0.5)
    one = planted(tmp_path, "one", 1e6, chance)
    with pytest.raises(UsageError, match="two models at least"):
        contenders([one])
    with pytest.raises(UsageError, match="different questions"):
        contenders([one, planted(tmp_path, "two", 2e6, chance, dataset="others")])
    with pytest.raises(UsageError, match=r"different questions: number \d+ is '\d+\?' .* and 'is it \d+\?'"):
        contenders([one, planted(tmp_path, "three", 2e6, chance, ask="is it {}?")])


def test_the_smaller_one_is_not_who_was_named_first(tmp_path: Path) -> None:
    """Where parameters are unknown it is who computes less; and who cannot be told apart is refused."""
    even = dict.fromkeys(range(QUESTIONS), 0.5)
    light = planted(tmp_path, "light", 0, even, step_flops=1e6)
    heavy = planted(tmp_path, "heavy", 0, even, step_flops=5e6)
    sized = planted(tmp_path, "sized", 1e3, even)  # 2 FLOPs a parameter and token
    for order in ([light, heavy, sized], [heavy, sized, light]):
        assert [c.name for c in contenders(order)] == ["sized", "light", "heavy"]
    with pytest.raises(UsageError, match=r"is not known: neither the parameters of served nor its arithmetic"):
        contenders([light, planted(tmp_path, "served", 0, even)])


def test_each_sweep_is_a_contender_of_its_own(tmp_path: Path) -> None:
    """Two temperatures of one model are not one pool, and neither is the smaller one."""
    even = dict.fromkeys(range(QUESTIONS), 0.5)
    cold, warm = (planted(tmp_path, "m", 1e6, even, name=n, sampling=n) for n in ("cold", "warm"))
    with pytest.raises(UsageError, match="two models at least"):
        contenders([cold, warm])
    found = contenders([cold, planted(tmp_path, "large", 2e6, even), warm, cold])
    assert [c.name for c in found] == ["cold", "warm", "large"]
    assert {c.name: len(c.pools) for c in found} == {"cold": 1, "warm": 1, "large": 1}
    assert exchange(found[0], found[1], "flops") is None
    assert exchange(found[2], found[0], "flops") is None
    assert exchange(found[0], found[2], "flops") is not None


def test_who_is_as_often_right_is_told_with_the_interval_of_the_difference(tmp_path: Path) -> None:
    sure = dict.fromkeys(range(QUESTIONS), 1.0)
    rate = exchange(
        *contenders([planted(tmp_path, "small", 1e6, sure), planted(tmp_path, "large", 2e6, sure)]), "flops"
    )
    assert rate is not None
    assert rate.rate is not None
    assert (rate.rate.value, rate.to_larger) == (1.0, pytest.approx(0.5))
    assert rate.greedy.low < 0 < rate.greedy.high
    assert f"is right as often as large without more flops: their greedy answers differ by {rate.greedy.signed}" in str(
        rate
    )


def test_a_judge_whose_cost_is_not_known_buys_nothing(tmp_path: Path) -> None:
    """A verdict from an old store has no price; one that was noted is part of what the strategy costs."""
    mostly_wrong = dict.fromkeys(range(QUESTIONS), 0.2)  # no two wrong answers agree, so the judge is asked
    large = planted(tmp_path, "large", 2e6, mostly_wrong)
    marks = {}
    for name, spent in (("told", Spent(seconds=2.0, tokens=7, flops=3e9)), ("untold", None)):
        small = planted(tmp_path, name, 1e6, mostly_wrong)
        with Store(small, write=True) as store:
            for q in range(QUESTIONS):
                store.add(1, [Verdicts(q, -1, s, "llm", s / 20, spent=spent) for s in range(SAMPLES)])
        marks[name] = [m for m in frontier(contenders([small, large]), "flops") if m.strategy == "best-of-n(judge=llm)"]
    assert marks["untold"] == []
    (widest,) = [m.cost for m in marks["told"] if m.width == SAMPLES]
    assert widest == pytest.approx(SAMPLES * (3e9 + 2 * 1e6 * 20))


@pytest.mark.slow
def test_chance_among_many_points_states_no_rate(tmp_path: Path) -> None:
    """Sixty correlated points, each of them ten points short: about a third had a rate when points were chosen on the
    questions that they were counted on. With one that is really better, a rate is found."""
    template = contenders(
        [planted(tmp_path, n, s, dict.fromkeys(range(QUESTIONS), 0.5)) for n, s in (("small", 1e6), ("large", 2e6))]
    )
    rng = np.random.default_rng(7)
    stated = {}
    for best in (0.75, 0.97):
        rates = [exchange(*correlated(template, best, rng), "flops", resamples=50) for _ in range(60)]
        stated[best] = sum(rate is not None and rate.rate is not None for rate in rates) / len(rates)
    assert stated[0.75] <= 0.1
    assert stated[0.97] >= 0.6


def test_a_rate_without_an_upper_end_is_plain_json() -> None:
    one = Interval(-0.1, -0.2, 0.1)
    rate = Exchange("a", "b", "flops", one, Interval(3.0, 1.0, math.inf), 1.5, "vote at 8", 0.6, one, one)
    told = json.loads(json.dumps(rate.told, allow_nan=False))
    assert told["rate"] == {"value": 3.0, "low": 1.0, "high": None}
    assert told["says"] == str(rate)
    assert "[1.0, never]" in str(rate)


def correlated(template: list[Contender], best: float, rng: np.random.Generator, points: int = 60) -> list[Contender]:
    """A smaller model of many points, the greedy one 50 % right and the others ``best``, against one that is 85 %."""
    common = rng.normal(size=(QUESTIONS, 1))

    def answered(share: list[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
        latent = np.sqrt(0.5) * common + np.sqrt(0.5) * rng.normal(size=(QUESTIONS, len(share)))
        return np.asarray(latent < [NormalDist().inv_cdf(p) for p in share], float)

    small, large = template
    of_small, of_large = small.pools[0], large.pools[0]
    right = answered([0.5] + [best] * points)
    mine = [(of_small, point(of_small, "greedy", 1, right[:, 0]))]
    mine += [(of_small, point(of_small, "vote", 2 + at, right[:, 1 + at])) for at in range(points)]
    theirs = [(of_large, point(of_large, "greedy", 1, answered([0.85])[:, 0]))]
    return [Contender("small", 1e6, (of_small,), tuple(mine)), Contender("large", 2e6, (of_large,), tuple(theirs))]


def point(pool: Pool, strategy: str, width: int, right: np.ndarray[Any, np.dtype[np.float64]]) -> Point:
    cost = np.full(len(pool), 20.0 * width)
    plays = Plays.of(right[:, None], cost[:, None])
    return Point(strategy, width, right, cost, cost, right, np.full(len(pool), width), plays, 1, width)
