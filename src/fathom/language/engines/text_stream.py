"""From token bytes to text as it may be shown: whole characters only, and nothing of a stop string.

A token may end in the middle of a character, and a stop string may begin in one token and end in another. Tokens are
held back as long as either is possible, and come out together with their text, so that what was shown of a choice is
always exactly what its shown tokens say; only at a stop string a token may be cut in two.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Sequence

__all__ = ["TextStream"]


class TextStream:
    """Text of one choice as it grows.

    ::

        stream = TextStream(("\\n\\n",))
        stream.feed(17, b"So")   # ("So", [17])
        stream.feed(18, b".\\n") # ("", [])      its newline may begin the stop string
        stream.feed(19, b"\\n")  # (".", [])     and it did: stream.stopped, stream.remainder == "."
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(s for s in stop if s)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        # held tokens, each with the length of the held text up to its end; beyond all for one that ends in a character
        self._tokens: list[tuple[int, float]] = []
        self.stopped: str | None = None  # the stop string that was met
        self.remainder = ""  # what was shown of a token that the stop string cut in two

    def feed(self, token: int, data: bytes) -> tuple[str, list[int]]:
        """The text and the tokens that may be shown now."""
        self._held += self._decoder.decode(data)
        incomplete = bool(self._decoder.getstate()[0])
        self._tokens.append((token, math.inf if incomplete else len(self._held)))
        found = [(at, stop) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if not found:
            return self._give(len(self._held) - self._possible())
        cut, met = min(found)
        text = self._held[:cut]
        shown, tokens = self._give(cut)
        self.stopped, self.remainder = met, text[len(shown) :]
        return text, tokens

    def flush(self) -> tuple[str, list[int]]:
        """The rest, at the end of the choice. An incomplete character becomes U+FFFD."""
        text = self._held + self._decoder.decode(b"", final=True)
        tokens = [token for token, _ in self._tokens]
        self._held, self._tokens = "", []
        return text, tokens

    def _possible(self) -> int:
        """Length of the longest end of the held text with which a stop string begins."""
        longest = max(map(len, self._stop), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stop):
                return length
        return 0

    def _give(self, safe: int) -> tuple[str, list[int]]:
        """All tokens that end within the first ``safe`` characters, with their text."""
        count = max((i + 1 for i, (_, end) in enumerate(self._tokens) if end <= safe), default=0)
        if not count:
            return "", []
        length = int(self._tokens[count - 1][1])
        text, self._held = self._held[:length], self._held[length:]
        tokens = [token for token, _ in self._tokens[:count]]
        self._tokens = [(token, end - length) for token, end in self._tokens[count:]]
        return text, tokens
