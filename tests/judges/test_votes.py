"""The tally's laws: who leads, what a tie is, and that the order of adding does not matter."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.judges.votes import Tally

Ballot = tuple[str, float, float | None, int, bool]
keys = st.sampled_from("abcde")
ballots = st.lists(
    st.tuples(
        keys,
        st.floats(0, 10, allow_nan=False),
        st.none() | st.floats(0, 1, allow_nan=False),
        st.integers(0, 10**6),
    ),
    max_size=30,
    unique_by=lambda ballot: ballot[3],
)


def _tally(votes: list[tuple[str, float, float | None, int]], unparsed: str = "") -> Tally:
    tally = Tally()
    for key, weight, score, order in votes:
        tally.add(key, weight, score, order, parsed=key not in unparsed)
    return tally


@given(ballots, st.randoms())
def test_the_order_of_adding_does_not_matter(
    votes: list[tuple[str, float, float | None, int]], rng: random.Random
) -> None:
    one, other = _tally(votes, "e"), _tally(rng.sample(votes, len(votes)), "e")
    assert one.ranking() == other.ranking()
    assert (one.tie, one.confidence, one.counts) == (other.tie, other.confidence, other.counts)


@given(st.lists(keys, min_size=1, max_size=60))
def test_the_majority_leads(votes: list[str]) -> None:
    tally = Tally()
    for vote in votes:
        tally.add(vote)
    counts = Counter(votes)
    leader = tally.leader
    assert leader is not None
    assert leader.votes == leader.count == max(counts.values())
    assert tally.confidence == pytest.approx(max(counts.values()) / len(votes))
    assert tally.tie == (list(counts.values()).count(max(counts.values())) > 1)
    assert tally.counts == sorted(counts.values(), reverse=True)
    if tally.tie:  # nobody was scored, so the one that finished first leads
        level = [key for key, count in counts.items() if count == max(counts.values())]
        assert leader.key == min(level, key=votes.index)


@given(ballots)
def test_unparsed_answers_never_outvote_parsed_ones(votes: list[tuple[str, float, float | None, int]]) -> None:
    ranking = _tally(votes, "de").ranking()
    parsed = [standing.parsed for standing in ranking]
    assert parsed == sorted(parsed, reverse=True)


def test_a_tie_goes_to_the_score_then_to_the_earlier() -> None:
    tally = Tally()
    for key, score, order in (("a", 0.2, 1), ("b", 0.9, 2), ("a", 0.4, 3), ("b", 0.1, 4)):
        tally.add(key, score=score, order=order)
    assert tally.tie
    assert tally.leader is not None
    assert tally.leader.key == "b"  # mean score 0.5 against 0.3
    tally.add("c", 2, 0.5, 0)
    assert tally.leader.key == "c"  # as many votes, as good, and first
    tally.add("a", score=0.0, order=9)
    assert tally.leader.key == "a"
    assert not tally.tie


def test_weights_outvote_numbers() -> None:
    tally = Tally()
    for key, weight in (("a", 0.1), ("a", 0.2), ("a", 0.1), ("b", 0.9)):
        tally.add(key, weight)
    assert [standing.key for standing in tally] == ["b", "a"]
    assert tally.counts == [3, 1]
    assert tally.confidence == pytest.approx(0.9 / 1.3)


def test_blank_votes_take_confidence_and_lead_nothing() -> None:
    tally = Tally()
    assert tally.leader is None
    assert tally.confidence == 0
    tally.add(None)
    assert tally.leader is None
    tally.add("7", text="7.0")
    assert (len(tally), tally.confidence, tally.leader and tally.leader.text) == (2, 0.5, "7.0")
    assert Tally().counts == []


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_refuses_weights_that_make_no_sense(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        Tally().add("a", weight)
    with pytest.raises(ValueError, match="NaN"):
        Tally().add("a", score=float("nan"))
