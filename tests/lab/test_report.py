"""The report of a sweep: whole, self-contained, readable without anything else, and deaf to what models write."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from fathom.errors import InputError
from fathom.lab.pool import Pool
from fathom.lab.records import Asked, Outcome, Terms, Written
from fathom.lab.report import report
from fathom.lab.scoring import baselines, score
from fathom.lab.store import Store
from fathom.lab.summary import goodput, reliability, rows, seconds_of, tuned
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


def test_a_threshold_is_tuned_on_other_questions_than_it_is_reported_on(pools: Callable[..., list[Pool]]) -> None:
    (pool,) = pools(count=24, samples=12)
    ours, theirs = pool.halves(seed=3)
    assert sorted((*ours.questions, *theirs.questions)) == list(range(24))
    found = tuned(pool, seed=3)
    assert found is not None
    assert found.questions == len(theirs) == 12
    assert 0 <= found.tokens_saved < 1
    assert tuned(pool.some([0, 1])) is None
