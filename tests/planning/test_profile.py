"""Profiles: kept and found again, refused where they belong to another, and planned from."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fathom
from fathom.costs import Costs
from fathom.errors import FathomError, InputError, UsageError
from fathom.language.engines.pace import machine
from fathom.language.model import LanguageModel
from fathom.planning.ability import Measured
from fathom.planning.cost import CostModel, Sample, fitted
from fathom.planning.plan import Candidate
from fathom.planning.population import Kind, Population
from fathom.planning.profile import Profile, Spread, digest_of, fit, kept_profile, load, save

Make = Callable[..., LanguageModel]
COSTS = Costs("small", "engine 1", parameters=10**9)


def profile(**changes: Any) -> Profile:
    facts: dict[str, Any] = {
        "model": "small",
        "engine": "engine 1",
        "digest": digest_of(COSTS),
        "machine": machine(),
        "dataset": "sums",
        "questions": 40,
        "depth": 30.0,
        "samples": tuple((w, d, 0.2 + d * (0.01 + 0.002 * w)) for w in (1, 8) for d in range(10, 60, 5)),
        "spreads": (
            Spread(0, ((1.0, 0.2, 0.3),)),
            Spread(None, ((1.0, 0.9, 0.05), (1.0, 0.4, 0.2))),
        ),
        "curves": (Measured("direct", 1, None, 0.6, 0.5, 0.7, 30.0),),
    }
    return Profile(**{**facts, **changes})


def test_a_profile_is_found_again_by_its_model_and_engine(tmp_path: Path) -> None:
    save(profile())
    found = kept_profile(COSTS)
    assert found is not None
    assert found.profile == profile()
    assert found.notes == ()
    assert kept_profile(replace(COSTS, model="other")) is None
    assert kept_profile(replace(COSTS, engine="engine 2")) is None


def test_the_latest_profile_goes_before_older_ones() -> None:
    import os

    old = save(profile(dataset="old"))
    os.utime(old, (1, 1))
    save(profile(dataset="new"))
    found = kept_profile(COSTS)
    assert found is not None
    assert found.profile.dataset == "new"


def test_of_several_profiles_the_one_for_this_kind_of_answer_is_found() -> None:
    import os

    os.utime(save(profile(dataset="sums", kind="short")), (1, 1))
    save(profile(dataset="programs", kind="code"))
    for kind, dataset in (("short", "sums"), ("code", "programs"), ("", "programs")):
        found = kept_profile(replace(COSTS, kind=kind))
        assert found is not None
        assert found.profile.dataset == dataset
    assert kept_profile(replace(COSTS, kind="text")) is None


def test_a_profile_that_is_named_is_used_for_other_kinds_of_answer_with_a_warning() -> None:
    made = profile(dataset="programs", kind="code")
    (note,) = fit(made, replace(COSTS, kind="short")).notes
    assert "WARNING" in note
    assert "programs" in note
    assert fit(made, replace(COSTS, kind="code")).notes == ()
    assert fit(profile(), replace(COSTS, kind="short")).notes == (), "of an older one nobody knows"


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"model": "other"}, "model"), ({"digest": "sha256:0"}, "digest"), ({"engine": "engine 2"}, "engine")],
)
def test_a_profile_of_another_model_or_engine_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        fit(profile(**changes), COSTS)


def test_a_profile_of_another_machine_is_used_for_its_accuracies_alone_with_a_warning() -> None:
    found = fit(profile(machine={"cpu": "abacus"}), COSTS)
    assert "WARNING" in found.notes[0]
    assert "abacus" in found.notes[0]
    assert not found.profile.costs(COSTS, same_machine=found.same_machine).unit_seconds
    assert fit(profile(), COSTS).profile.costs(COSTS, same_machine=True).unit_seconds


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[1, 2]",
        msgspec.json.encode(profile(version=99)),
        msgspec.json.encode(profile(spreads=())),
        msgspec.json.encode(profile(spreads=(Spread(None, ()),))),
    ],
)
def test_a_damaged_profile_gives_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"profile\.json"):
        load(path)


def test_a_profile_that_cannot_be_written_or_read_says_where(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(FathomError, match="cannot write"):
        save(profile(), tmp_path / "file" / "profile.json")


def test_depths_between_those_measured_are_interpolated() -> None:
    ability = profile().ability
    low, middle, high = (ability.accuracy(5, place) for place in (0.0, 0.5, 1.0))
    assert low < middle < high
    assert ability.others[0].strategy == "direct"
    rows = profile().difficulty()
    assert rows[-1][2] > rows[0][2], "agreement is a good sign"


@given(
    depths=st.sets(st.integers(0, 400), min_size=1, max_size=6),
    usual=st.floats(1.0, 300.0),
    spread=st.floats(0.0, 3.0),
    differ=st.floats(0.0, 3.0),
    width=st.integers(1, 5),
    rng=st.randoms(use_true_random=False),
)
def test_a_profile_reads_back_its_own_accuracies_at_its_own_depths(
    depths: set[int], usual: float, spread: float, differ: float, width: int, rng: random.Random
) -> None:
    """Whatever the lengths that a session tells scatter by."""
    spreads = [Spread(depth, ((1.0, rng.uniform(0.1, 0.9), 0.05),)) for depth in (*depths, None)]
    rng.shuffle(spreads)
    found = profile(depth=usual, spreads=tuple(spreads))
    costs = replace(COSTS, depth=found.depth, spread=spread, differ=differ)
    candidate = Candidate(CostModel(costs), found.ability)
    for measured in spreads:
        told = candidate.ability.accuracy(width, candidate.place(measured.depth))
        assert told == pytest.approx(Population((Kind(*measured.kinds[0]),)).accuracy(width), abs=1e-6)
    places = [candidate.place(depth) for depth in (*range(0, 500, 7), None)]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)


def test_longer_chains_are_as_far_at_a_greater_depth() -> None:
    found = profile(
        spreads=tuple(Spread(d, ((1.0, r, 0.0),)) for d, r in ((0, 0.1), (20, 0.4), (60, 0.6), (None, 0.8)))
    )
    usual, longer = (
        Candidate(CostModel(replace(COSTS, depth=times * found.depth)), found.ability) for times in (1.0, 2.0)
    )
    for depth in (0, 5, 20, 33, 60, 100):
        assert longer.place(2 * depth) == pytest.approx(usual.place(depth))
    assert longer.place(20) < usual.place(20)


async def test_auto_plans_from_a_profile_and_says_what_is_wrong_with_it(scripted: Make, tmp_path: Path) -> None:
    # a profile that says: reasoning gains nothing, and one answer is as good as many
    path = save(
        profile(model="scripted", engine="", digest="", machine={"cpu": "abacus"}, spreads=(Spread(0, ((1, 1, 0),)),)),
        tmp_path / "profile.json",
    )
    result = await fathom.asolve(scripted({"1": 1.0}), "?", strategy=f'auto(profile="{path}")')
    assert result.receipt.spent.width <= 4
    assert result.receipt.spent.depth == 0
    assert any("WARNING" in note for note in result.receipt.notes)
    with pytest.raises(UsageError, match="made for the model"):
        await fathom.asolve(scripted({"1": 1.0}, name="other"), "?", strategy=f'auto(profile="{path}")')


def test_times_are_fitted_from_samples_whatever_a_few_wild_ones_say() -> None:
    rng = random.Random(random.SystemRandom().random())
    unit = {1: rng.uniform(0.01, 0.1), 8: rng.uniform(0.1, 0.3)}
    read = rng.uniform(0.1, 0.5)
    samples = [
        Sample(width, depth, read + depth * unit[width] * rng.uniform(0.98, 1.02))
        for width in unit
        for depth in rng.sample(range(20, 90), 20)
    ]
    wild = [Sample(8, 40, 500.0), Sample(1, 40, 0.001), Sample(1, 0, 3.0)]
    found = fitted(COSTS, [*samples, *wild])
    for width, seconds in unit.items():
        assert found.unit_seconds[width] == pytest.approx(seconds, rel=0.15)
    assert found.read_seconds == pytest.approx(read, abs=0.4)
    assert fitted(COSTS, []) == COSTS


def test_a_wave_takes_longer_than_one_and_less_than_one_after_another() -> None:
    cost = CostModel(replace(COSTS, unit_seconds={1: 0.1, 8: 0.3}))
    one, eight = (cost.predict(width, None, width).seconds for width in (1, 8))
    after_another = cost.predict(8, None, 1).seconds
    assert one is not None
    assert eight is not None
    assert after_another is not None
    assert one < eight < after_another
    dragged = CostModel(cost.costs, drag=2.0).predict(8, None, 8).seconds
    assert dragged == pytest.approx(2 * eight)
