"""Where drafts come from that cost nothing: the text itself, and its siblings.

What a model writes often repeats the prompt (prompt lookup: code that is edited, a text that is quoted) and, among the
samples of one question, what another sample wrote. The last tokens of a text are looked up in all of these; what
followed them there is the draft. Nothing is drawn, so the law of such a draft is one-hot. ``Lookahead`` is what an
engine asks before each step: it consults the control on how far to draft, and tells it what came of it. A drafter that
is a model of its own (``model_drafting``) is asked in the same way.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Protocol

from fathom.language.draft_control import DraftControl
from fathom.language.speculative import Draft

__all__ = ["DRAFTS", "Drafter", "Line", "Lookahead", "Lookup", "Ngrams", "Questions"]

DRAFTS = ("auto", "lookup", "siblings", "off")
"""What engines take as ``draft``: own text and prompt, also the siblings, nothing; ``auto`` is siblings."""

_GRAM = 2  # tokens by which a place is found
_PLACES = 8  # that are remembered for each of them, the latest
_EVIDENCE = 32  # tokens that are compared at most
_TEXTS = 256  # of one question
_QUESTIONS = 16
_NEAR = 4  # tokens that a drafter may be behind and read while it drafts


class Ngrams:
    """The texts of one question, and where in them each pair of tokens was followed by something.

    Those that begin with ``prompt`` share its places.
    """

    def __init__(self, prompt: Sequence[int] = ()) -> None:
        self._prompt = list(prompt)
        self._texts: list[list[int]] = []
        self._places: defaultdict[tuple[int, ...], deque[tuple[int, int]]] = defaultdict(lambda: deque(maxlen=_PLACES))
        self._texts.append([])
        self.extend(0, prompt)

    def __len__(self) -> int:
        return len(self._texts)

    def begin(self, tokens: Sequence[int]) -> int:
        """A new text; gives its number."""
        known = len(self._prompt) if list(tokens[: len(self._prompt)]) == self._prompt else 0
        self._texts.append(self._prompt[:known])
        self.extend(len(self._texts) - 1, tokens[known:])
        return len(self._texts) - 1

    def extend(self, number: int, tokens: Sequence[int]) -> None:
        text = self._texts[number]
        for token in tokens:
            if len(text) >= _GRAM:
                self._places[tuple(text[-_GRAM:])].append((number, len(text)))
            text.append(token)

    def draft(self, number: int, most: int, branches: int = 1) -> Draft:
        """What may follow text ``number``: up to ``most`` tokens along each of up to ``branches`` different ways."""
        text = self._texts[number]
        found = [(self._agree(text, place), place) for place in self._places.get(tuple(text[-_GRAM:]), ())]
        found.sort(key=lambda match: match[0])  # of equals, the latest
        ways: list[list[int]] = []
        for _, (other, at) in reversed(found):
            way = self._texts[other][at : at + most]
            if not any(known[: len(way)] == way for known in ways):
                ways.append(way)
            if len(ways) == branches:
                break
        return _tree(ways, found[-1][0] if found else 0)

    def _agree(self, text: list[int], place: tuple[int, int]) -> int:
        """How many tokens before a place are the same as at the end of the text."""
        other, at = self._texts[place[0]], place[1]
        length, most = _GRAM, min(_EVIDENCE, at, len(text))
        while length < most and other[at - 1 - length] == text[-1 - length]:
            length += 1
        return length


def _tree(ways: Sequence[Sequence[int]], evidence: int) -> Draft:
    """The ways with their common beginnings joined."""
    if len(ways) < 2:
        return Draft.chain(ways[0] if ways else (), evidence=evidence)
    tokens: list[int] = []
    parents: list[int] = []
    known: dict[tuple[int, int], int] = {}
    for way in ways:
        at = -1
        for token in way:
            node = known.setdefault((at, token), len(tokens))
            if node == len(tokens):
                tokens.append(token)
                parents.append(at)
            at = node
    return Draft(tuple(tokens), tuple(parents), None, evidence)


class Questions:
    """The texts of the questions that were asked last, so that what is sampled later finds its siblings.

    A question is known by the token ids of its prompt; with ``shared`` False every text is a question of its own.
    """

    def __init__(self, *, shared: bool = True) -> None:
        self._shared = shared
        self._known: dict[tuple[int, ...], Ngrams] = {}

    def texts(self, prompt: Sequence[int]) -> Ngrams:
        if not self._shared:
            return Ngrams(prompt)
        key = tuple(prompt)
        found = self._known.pop(key, None)
        if found is None or len(found) >= _TEXTS:
            found = Ngrams(prompt)
        self._known[key] = found
        while len(self._known) > _QUESTIONS:
            del self._known[next(iter(self._known))]
        return found


class Drafter(Protocol):
    """Drafts for one text. ``free`` tells that drafting takes no time worth counting."""

    @property
    def free(self) -> bool: ...

    @property
    def behind(self) -> int:
        """Tokens of the text that it has to read before it can draft."""

    def read(self) -> int:
        """Read a piece of these; gives how many it were."""

    def draft(self, most: int, branches: int = 1) -> Draft:
        """What may come next, up to ``most`` tokens along each of up to ``branches`` ways; may be nothing."""

    def extend(self, tokens: Sequence[int]) -> None:
        """The text goes on so."""


class Lookup:
    """Drafts one text from itself and its siblings. ``text`` is what there is of it already, prompt included."""

    free = True
    behind = 0

    def __init__(self, texts: Ngrams, text: Sequence[int]) -> None:
        self._texts = texts
        self._number = texts.begin(text)

    def draft(self, most: int, branches: int = 1) -> Draft:
        return self._texts.draft(self._number, most, branches)

    def read(self) -> int:
        return 0

    def extend(self, tokens: Sequence[int]) -> None:
        self._texts.extend(self._number, tokens)


class Line:
    """One text that is being written, its drafter, and drafts that are only compared with what comes.

    Such a shadow costs nothing, and teaches how likely drafts are accepted while none is verified.
    """

    def __init__(self, drafter: Drafter) -> None:
        self.drafter = drafter
        self._shadows: dict[int, Draft] = {}  # by how many ways they have
        self._seen: list[int] = []

    def shadow(self, most: int, broadest: int) -> None:
        """Compare from now on, unless something is being compared."""
        if not self._shadows:
            self._shadows = {branches: self.drafter.draft(most, branches) for branches in {1, broadest}}
            self._seen = []

    def grow(self, tokens: Sequence[int], control: DraftControl) -> None:
        """The text goes on so; ``control`` is told of comparisons that are decided by it."""
        self.drafter.extend(tokens)
        if self._shadows:
            self._seen += tokens
        for branches, draft in list(self._shadows.items()):
            right, length = len(draft.path(self._seen)), draft.depth
            if right < len(self._seen) or right >= length:
                control.note(draft.evidence, branches, length, right)
                del self._shadows[branches]


class Lookahead:
    """What to verify at the next step, for the texts that advance together. ``clock`` is the one that steps are timed
    by.
    """

    def __init__(self, control: DraftControl, clock: Callable[[], float]) -> None:
        self._control, self._clock = control, clock
        self._drafts: list[Draft] = []
        self._branches = 1
        self._reading = 0.0  # seconds of the step that drafters read in

    def draft(self, lines: Sequence[Line], most: int) -> list[Draft]:
        """A draft for each line, all of one length and at most ``most`` tokens long; or empty ones.

        ``most`` is how many tokens each text may still become longer by.
        """
        control = self._control
        self._drafts, self._reading = [Draft()] * len(lines), 0.0
        full: list[Draft] = []
        evidence, longest = 0, most
        if all(line.drafter.free for line in lines):
            full = [line.drafter.draft(min(most, control.longest)) for line in lines]
            evidence = min(draft.evidence for draft in full)
            longest = min(len(draft) for draft in full)
        behind = sum(line.drafter.behind for line in lines)
        shape = control.choose(evidence, longest, len(lines), behind) if longest > 0 else None
        if shape is None:
            for line in lines[: len(full)]:
                line.shadow(longest, control.broadest if len(lines) == 1 else 1)
        elif behind <= _NEAR * len(lines) or self._caught_up(lines):
            self._branches = shape.branches
            drafts = [line.drafter.draft(*shape) for line in lines]
            if all(draft.tokens for draft in drafts):
                self._drafts = drafts
        return self._drafts

    def _caught_up(self, lines: Sequence[Line]) -> bool:
        """Let drafters read a piece of what was written without them, and tell whether that was all of it."""
        began = self._clock()
        read = sum(line.drafter.read() for line in lines)
        self._reading = self._clock() - began
        if read:
            self._control.read(read, self._reading, len(lines))
        return all(line.drafter.behind <= _NEAR for line in lines)

    def settle(self, lines: Sequence[Line], made: Sequence[Sequence[int]], seconds: float) -> list[int]:
        """The step, drafting included, has given these tokens to the lines in so many seconds; tells how many of each
        had been drafted.
        """
        accepted: list[int] = []
        for line, draft, tokens in zip(lines, self._drafts, made, strict=True):
            right = len(draft.path(tokens))
            known = draft.depth if right < len(tokens) else right  # where others stopped it, the rest is not known
            self._control.note(draft.evidence, self._branches, known, right)
            accepted.append(right)
            line.grow(tokens, self._control)
        drafted = max((len(draft) for draft in self._drafts), default=0)
        self._control.observe(drafted, min(map(len, made)), seconds - self._reading, len(lines))
        return accepted
