"""The report of a sweep: whole, self-contained, readable without anything else, and deaf to what models write."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from fathom.errors import InputError
from fathom.lab.pool import Pool, load
from fathom.lab.records import Asked, Outcome, Terms, Verdicts, Written
from fathom.lab.report import report
from fathom.lab.scoring import baselines, score
from fathom.lab.store import Store
from fathom.lab.summary import flops_of, goodput, reliability, rows, seconds_of, tuned
from fathom.language.engines.base import Pace
from fathom.records import Spent
from fathom.search import Vote

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """The tags of a page, and whatever it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]


def filled(directory: Path, questions: int, samples: int, depths: tuple[int, ...]) -> None:
    rng = random.Random(0)
    with Store(directory, write=True) as store:
        asked = [Asked(q, f"q{q}", f"{HOSTILE} {q}?", "1") for q in range(questions)]
        terms = Terms(f"m {HOSTILE}", "", "e", "{}", "short", "d", 0)
        sweep = store.begin(f"s {HOSTILE}", terms, asked, {"unit": "token", "parameters": 1000}).id
        for q in range(questions):
            for depth in depths:
                for s in range(-1, samples):
                    right = rng.random() < 0.3 + 0.4 * (q % 2)
                    answer = "1" if right else f"{HOSTILE}{rng.randrange(3)}"
                    store.add(sweep, [Written(q, depth, s, answer, True, True, float(right), rng.randrange(5, 60), 0, 9,
                                              0.1, -rng.random(), answer=answer, text=HOSTILE)])  # fmt: skip
            store.add(sweep, [Outcome(q, "beam(width=4)", "", "1", float(q % 2), 0.5, "exhausted", {"tokens": 99})])


@pytest.mark.slow
def test_the_page_holds_everything_and_loads_nothing(tmp_path: Path) -> None:
    filled(tmp_path, questions=20, samples=8, depths=(16, 64))
    text = report(tmp_path).read_text()
    page = Page()
    page.feed(text)
    assert "script" not in page.tags
    assert page.tags.count("img") == 13
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert HOSTILE not in text
    assert "&lt;script&gt;" in text
    for said in ("greedy", "majority", "oracle", "beam(width=4)", "Depth and width", "tuned on one half"):
        assert said in text
    drawn = sorted((tmp_path / "report").iterdir())
    assert len(drawn) == 26
    for path in drawn:
        if path.suffix == ".svg":
            ElementTree.parse(path)
        else:
            assert path.read_bytes().startswith(b"\x89PNG")
    assert re.search(r"majority</td><td>8</td><td>\d+\.\d% \[", text)


def test_a_sweep_that_has_hardly_begun_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no sweep"):
        report(tmp_path)
    with Store(tmp_path, write=True) as store:
        store.begin("s", Terms("m", "", "e", "", "", "d", 0), [Asked(0, "q", "?", "1")])
    with pytest.raises(InputError, match="no question yet"):
        report(tmp_path)


def test_numbers_follow_from_the_points(pools: Callable[..., list[Pool]]) -> None:
    (pool,) = pools(count=30, samples=8)
    points = [*baselines(pool), *score(pool, [Vote()])]
    for row, point in zip(rows(pool, points), points, strict=True):
        assert row.accuracy.value == pytest.approx(point.right.mean())
        assert row.accuracy.low <= row.accuracy.value <= row.accuracy.high
        assert row.tokens == pytest.approx(point.tokens.mean())
        assert row.flops == pytest.approx(2 * pool.parameters * (point.tokens + pool.prompt_tokens).mean())
        assert row.seconds[0] <= row.seconds[1]
    bins, error = reliability(points[-1])
    assert sum(b.questions for b in bins) == 30
    assert 0 <= error <= 1


def test_goodput_grows_with_the_deadline_up_to_the_accuracy(pools: Callable[..., list[Pool]]) -> None:
    (pool,) = pools(count=40, samples=4)
    points = [p for p in baselines(pool) if p.strategy == "sample"]
    most = float(seconds_of(pool, points[0]).max())
    share = goodput(pool, points, np.array([0.0, most / 4, most / 2, most]))["sample"]
    assert (np.diff(share) >= 0).all()
    assert share[0] == 0
    assert share[-1] > 0


def test_what_is_right_and_in_time_is_told_draw_by_draw(pools: Callable[..., list[Pool]]) -> None:
    """A question whose right draws are quick and whose wrong ones are slow is as often in time as its quick draws are,
    also where it is too slow on average; and the slowest answers show in the percentiles."""
    (pool,) = pools(count=8, samples=10)
    quick = np.arange(10) < 5
    steps = np.where(quick, 1, 99) * np.ones((8, 1), int)
    samples = replace(pool.samples, steps=steps, conclusion=0 * steps, score=quick * np.ones((8, 1)))
    facts = {"unit": "token", "pace": {"read_seconds": 0.0, "step_seconds": {"1": 1.0, "16": 1.6}}}
    pool = replace(pool, samples=samples, sweep=replace(pool.sweep, facts=facts))
    points = [p for p in baselines(pool, [4]) if p.strategy == "sample"]
    assert goodput(pool, points, np.array([0.5, 2.0, 100.0]))["sample"].tolist() == [0.0, 0.5, 0.5]
    (row,) = rows(pool, points)
    assert row.seconds == (pytest.approx(50.0), 99.0)
    one, together = score(pool, [Vote(wave=1, stop="never"), Vote(stop="never")], [8])
    assert seconds_of(pool, one) == pytest.approx(one.steps * 1.0)  # one at a time, at the pace of one
    assert seconds_of(pool, together) == pytest.approx(together.steps * Pace(0.0, {1: 1.0, 16: 1.6}).step(8))


def test_a_supervision_step_costs_what_samples_cost_and_not_what_judges_and_live_runs_did(tmp_path: Path) -> None:
    with Store(tmp_path, write=True) as store:
        asked, facts = [Asked(0, "q", "?", "1")], {"unit": "supervision step"}
        sweep = store.begin("s", Terms("m", "", "e", "", "", "d", 0), asked, facts)
        store.add(sweep.id, [Written(0, -1, s, "1", True, True, 1.0, 5, answer="1") for s in range(-1, 3)])
        for what, flops in (("samples", 20e6), ("judge", 7e9), ("beam(width=4)", 9e9)):
            store.charge(sweep.id, 0, what, Spent(flops=flops))
        (pool,) = load(store, sweep)
    assert flops_of(pool, baselines(pool, [1])[0]).tolist() == [5e6]


@pytest.mark.slow
def test_the_page_tells_roles_memory_and_judges_that_are_not_counted(tmp_path: Path) -> None:
    filled(tmp_path, questions=6, samples=4, depths=(16,))
    with Store(tmp_path, write=True) as store:
        sweep = store.find().id
        store.charge(
            sweep, 0, "samples", Spent(tokens=9, tokens_by_role={"think": 7, "judge": 2}, memory_bytes=3 << 20)
        )
        for q in range(6):
            store.add(sweep, [Verdicts(q, 16, s, "llm", 0.1 * s) for s in range(4)])
    text = report(tmp_path).read_text()
    assert "think 7, judge 2" in text
    assert "3.0 MiB" in text
    assert "best-of-n(judge=llm), judge not counted" in text
    for drawn in ("01-accuracy", "02-time"):
        assert "<!-- best-of-n(judge=llm) -->" in (tmp_path / "report" / f"{drawn}.svg").read_text()


def test_a_threshold_is_tuned_on_other_questions_than_it_is_reported_on(pools: Callable[..., list[Pool]]) -> None:
    (pool,) = pools(count=24, samples=12)
    ours, theirs = pool.halves(seed=3)
    assert sorted((*ours.questions, *theirs.questions)) == list(range(24))
    found = tuned(pool, seed=3)
    assert found is not None
    assert found.questions == len(theirs) == 12
    assert 0 <= found.tokens_saved < 1
    assert tuned(pool.some([0, 1])) is None
