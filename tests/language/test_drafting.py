"""Drafts out of the text itself and its siblings, and what is learned from those that are only compared."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from fathom.language.draft_control import DraftControl, Shape
from fathom.language.drafting import Line, Lookahead, Lookup, Ngrams, Questions

TEXT = st.lists(st.integers(0, 6), max_size=60)


def test_what_was_said_before_is_expected_again() -> None:
    words = [random.randrange(10**6) for _ in range(40)]
    drafter = Lookup(Ngrams(), [*words, 1, 2, *words[:10]])
    draft = drafter.draft(8)
    assert draft.tokens == tuple(words[10:18])
    assert draft.evidence == 10
    drafter.extend([7, 7])
    assert drafter.draft(8).tokens == ()


@given(TEXT, TEXT, st.integers(1, 6), st.integers(1, 3))
def test_every_way_of_a_draft_was_written_after_the_same_tokens(
    own: list[int], other: list[int], most: int, branches: int
) -> None:
    texts = Ngrams()
    texts.begin(other)
    draft = Lookup(texts, own).draft(most, branches)
    leaves = set(range(len(draft))) - set(draft.parents)
    ways = []
    for leaf in leaves:
        way = []
        while leaf >= 0:
            way.insert(0, draft.tokens[leaf])
            leaf = draft.parents[leaf]
        ways.append(way)
    assert len(ways) <= branches
    assert draft.depth <= most
    for way in ways:
        assert len(draft.path(way)) == len(way) > 0
        wanted = [*own[-2:], *way]
        assert any(
            text[i : i + len(wanted)] == wanted for text in (own, other) for i in range(len(text) - len(wanted) + 1)
        )


def test_growing_piece_by_piece_is_as_growing_at_once() -> None:
    words = [random.randrange(5) for _ in range(200)]
    at_once, by_piece = Lookup(Ngrams(), words), Lookup(Ngrams(), words[:3])
    at = 3
    while at < len(words):
        size = random.randrange(1, 9)
        by_piece.extend(words[at : at + size])
        at += size
    assert at_once.draft(7, 3) == by_piece.draft(7, 3)


def test_samples_of_one_question_draft_for_each_other_and_for_no_other() -> None:
    prompt = [random.randrange(100) for _ in range(10)]
    line = [random.randrange(100, 10**6) for _ in range(30)]
    questions = Questions()
    Lookup(questions.texts(prompt), [*prompt, *line])
    assert Lookup(questions.texts(prompt), [*prompt, *line[:5]]).draft(4).tokens == tuple(line[5:9])
    assert Lookup(questions.texts(prompt[1:]), [*prompt[1:], *line[:5]]).draft(4).tokens == ()
    alone = Questions(shared=False)
    Lookup(alone.texts(prompt), [*prompt, *line])
    assert Lookup(alone.texts(prompt), [*prompt, *line[:5]]).draft(4).tokens == ()


def test_only_so_many_questions_are_remembered() -> None:
    questions = Questions()
    first = questions.texts([0])
    for i in range(1, 40):
        questions.texts([i])
    assert questions.texts([39]) is questions.texts([39])
    assert questions.texts([0]) is not first


def test_drafts_that_are_only_compared_teach_what_to_expect() -> None:
    """After fifty plain steps of a text that repeats itself, the control drafts without ever having tried."""
    words = [random.randrange(10**6) for _ in range(25)] * 4
    control = DraftControl(cost=lambda rows: 1 + 0.01 * rows)
    line = Line(Lookup(Ngrams(), words[:2]))
    ahead = Lookahead(control, lambda: 0.0)
    drafted = accepted = 0
    at = 2
    while at < len(words):
        (draft,) = ahead.draft([line], len(words) - at)
        right = len(draft.path(words[at:]))
        made = words[at : at + right + 1]
        accepted += ahead.settle([line], [made], 0.01)[0]
        at += len(made)
        drafted += len(draft)
    assert accepted == drafted
    assert drafted > 30


def test_lines_in_step_get_drafts_of_one_length() -> None:
    words = [random.randrange(10**6) for _ in range(30)]
    ahead = Lookahead(DraftControl(fixed=Shape(6)), lambda: 0.0)
    lines = [Line(Lookup(Ngrams(), [*words, *words[:at]])) for at in (3, 26)]
    drafts = ahead.draft(lines, 10)
    assert [len(draft) for draft in drafts] == [4, 4] or [len(draft) for draft in drafts] == [6, 6]
    assert ahead.settle(lines, [[*drafts[0].tokens[:2], -1], [*drafts[1].tokens[:3]]], 0.1) == [2, 3]
    lines.append(Line(Lookup(Ngrams(), [1, 2, 3])))
    assert [len(draft) for draft in ahead.draft(lines, 10)] == [0, 0, 0]
