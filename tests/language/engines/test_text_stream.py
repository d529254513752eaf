"""Text as it may be shown: the same text and tokens, however the tokens cut it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fathom.language.engines.text_stream import TextStream

TEXTS = st.text(alphabet="ab \n–ß🐉漢", min_size=1, max_size=30)


@st.composite
def cut(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """A text, and its bytes as tokens that may end in the middle of a character."""
    text = draw(TEXTS)
    data = text.encode()
    ends = sorted(draw(st.sets(st.integers(1, len(data)))) | {len(data)})
    return text, [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def run(stream: TextStream, tokens: list[bytes]) -> tuple[str, list[int]]:
    shown, ids = "", list[int]()
    for index, data in enumerate(tokens):
        text, out = stream.feed(index, data)
        shown, ids = shown + text, ids + out
        if stream.stopped:
            return shown, ids
        assert b"".join(tokens[i] for i in ids).decode() == shown  # what was shown is what the tokens say
    text, out = stream.flush()
    return shown + text, ids + out


@given(cut(), st.lists(TEXTS, max_size=3))
def test_text_ends_before_the_first_stop_string(case: tuple[str, list[bytes]], stops: list[str]) -> None:
    text, tokens = case
    stream = TextStream(stops)
    shown, ids = run(stream, tokens)
    ends = [text.find(stop) for stop in stops if stop in text]
    # stop strings are looked for as the text grows: the one that is complete first ends it
    complete = [text.find(stop) + len(stop) for stop in stops if stop in text]
    assert bool(stream.stopped) == bool(ends)
    if ends:
        assert text.startswith(shown)
        assert not any(stop in shown for stop in stops)
        assert len(shown) <= min(complete)
        assert b"".join(tokens[i] for i in ids).decode() + stream.remainder == shown
    else:
        assert (shown, ids) == (text, list(range(len(tokens))))


@given(cut(), TEXTS)
def test_a_single_stop_string_cuts_exactly(case: tuple[str, list[bytes]], stop: str) -> None:
    text, tokens = case
    assert run(TextStream([stop]), tokens)[0] == text.partition(stop)[0]


@given(cut())
def test_without_stop_strings_nothing_whole_is_held_back(case: tuple[str, list[bytes]]) -> None:
    _, tokens = case
    stream, given_out = TextStream(), 0
    for index, data in enumerate(tokens):
        given_out += len(stream.feed(index, data)[1])
        whole = b"".join(tokens[: index + 1])
        try:
            whole.decode()
        except UnicodeDecodeError:
            continue
        assert given_out == index + 1


def test_broken_characters_become_a_mark() -> None:
    stream = TextStream()
    assert stream.feed(1, "🐉".encode()[:2]) == ("", [])
    assert stream.flush() == ("\ufffd", [1])


def test_the_stop_string_that_was_met_is_told() -> None:
    stream = TextStream(("END", "\n\n"))
    for token, data in enumerate((b"a\n", b"\nb")):
        stream.feed(token, data)
    assert stream.stopped == "\n\n"
