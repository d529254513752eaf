"""What judges are asked of what a sweep keeps, and that what it all took is in its account."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import virtual_time
from hypothesis import given
from hypothesis import strategies as st
from rambling import sums

from fathom.api import strategy_of
from fathom.errors import UsageError
from fathom.lab.datasets.base import Dataset
from fathom.lab.keeping import JUDGE, SAMPLES
from fathom.lab.pool import load_all
from fathom.lab.records import GREEDY, Verdicts, Written
from fathom.lab.scoring import score
from fathom.lab.spending import rest, total
from fathom.lab.store import Store
from fathom.lab.sweep import SweepOptions, open_sweep
from fathom.language.model import LanguageModel
from fathom.records import Spent

Sweep = Callable[..., None]


@pytest.fixture
def sweep(tmp_path: Path, rambler: LanguageModel) -> Sweep:
    """Sweeps the rambling model on a dataset, in virtual time, into one store."""

    def run(dataset: Dataset, **options: object) -> None:
        async def swept() -> None:
            said = SweepOptions(samples=4, **options)  # type: ignore[arg-type]
            async with open_sweep(rambler, "scripted", dataset, tmp_path, "s", said) as sweeper:
                await sweeper.run()

        virtual_time.run(swept())

    return run


def read(directory: Path) -> tuple[list[Written], list[Verdicts], Spent]:
    with Store(directory) as store:
        return list(store.trajectories(1)), list(store.verdicts(1)), store.spent(1)


def test_fewer_questions_than_are_kept_can_be_judged(sweep: Sweep, fresh: int, tmp_path: Path) -> None:
    sweep(sums(fresh, 7))
    sweep(sums(fresh, 3), judges=("llm", 'regex(pattern="[0-4]")'))
    kept, verdicts, _ = read(tmp_path)
    assert len(kept) == 7 * 5
    for judge in ("llm", "regex"):
        judged = sorted((v.question, v.sample) for v in verdicts if v.judge.startswith(judge))
        assert judged == [(question, sample) for question in range(3) for sample in (GREEDY, *range(4))]
    sweep(sums(fresh, 7), judges=("llm",))
    assert len([v for v in read(tmp_path)[1] if v.judge == "llm"]) == 7 * 5


def test_where_only_samples_were_judged_the_greedy_answers_are_when_it_goes_on(
    sweep: Sweep, fresh: int, tmp_path: Path
) -> None:
    """As sweeps of older versions left it. What looks at more than is kept of a greedy answer stays without a word."""
    judges, strategy = ("exact(reference=45)", "self-certainty"), "best-of-n(judge={}, greedy=true)"
    sweep(sums(fresh, 3), judges=judges)
    with Store(tmp_path, write=True) as store:
        store._db.execute("DELETE FROM verdict WHERE sample = ?", (GREEDY,))
    (pool,) = load_all(tmp_path)
    for judge in judges:
        with pytest.raises(UsageError, match="no verdicts on greedy answers"):
            score(pool, [strategy_of(strategy.format(judge))])
        assert len(score(pool, [strategy_of(f"best-of-n(judge={judge})")])) == 3
    sweep(sums(fresh, 3), judges=judges)
    (pool,) = load_all(tmp_path)
    assert [pool.graded(judge).greedy for judge in judges] == [True, False]
    assert len(score(pool, [strategy_of(strategy.format(judges[0]))])) == 3


@pytest.mark.parametrize("later", [False, True])
def test_what_judges_spend_is_told_apart(sweep: Sweep, fresh: int, tmp_path: Path, later: bool) -> None:
    judges = ("llm", 'regex(pattern="[0-4]")')
    sweep(sums(fresh, 4), **({} if later else {"judges": judges}))
    if later:
        sweep(sums(fresh, 4), judges=judges)
    kept, verdicts, spent = read(tmp_path)
    texts = {(t.question, t.sample): t.text for t in kept}
    graded = {(v.question, texts[v.question, v.sample]): v.spent for v in verdicts if v.judge == "llm"}
    tokens = [v.spent.tokens for v in verdicts if v.judge == "llm" and v.spent]
    assert len(tokens) == 20
    assert min(tokens) > 0
    assert all(v.spent and v.spent.tokens == 0 for v in verdicts if v.judge != "llm")
    with Store(tmp_path) as store:
        rows = store._db.execute("SELECT what, total(tokens) FROM account GROUP BY what").fetchall()
    charged = dict(rows)
    once = sum(one.tokens for one in graded.values() if one)
    assert charged[JUDGE] == spent.tokens_by_role["judge"] == (sum(tokens) if later else once)
    written = sum(t.steps + t.conclusion for t in kept)
    assert charged[SAMPLES] == spent.tokens - spent.tokens_by_role["judge"] == written
    assert {t.sample for t in kept} == {GREEDY, *range(4)}


numbers = st.integers(0, 10**6)
spendings = st.builds(
    Spent,
    seconds=numbers.map(float),
    tokens=numbers,
    tokens_by_role=st.dictionaries(st.sampled_from(["sample", "judge"]), st.integers(1, 99)),
    calls=numbers,
    width=numbers,
    memory_bytes=numbers,
    depth=numbers,
    flops=numbers.map(float),
    cost=st.none() | numbers.map(float),
)


@given(spendings, spendings)
def test_what_was_spent_in_parts_adds_up(a: Spent, b: Spent) -> None:
    both = total(a, b)
    assert both == total(b, a)
    assert both.memory_bytes == max(a.memory_bytes, b.memory_bytes)
    again = total(rest(both, b), b)
    assert again == both
