"""What the worker works on: a choice that grows token by token, and a text that is read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fathom.errors import EngineError
from fathom.language.drafting import Drafter, Line
from fathom.language.engines.base import Request
from fathom.language.engines.llama_cache import CachedSequence
from fathom.language.engines.llama_model import Model
from fathom.language.engines.llama_sampling import Sampler, logprob, top_logprobs
from fathom.language.engines.threaded import Listener, ThreadedChoice, TopLogprobs
from fathom.language.speculative import Draft, accept, laws

__all__ = ["LlamaChoice", "Reading"]


class LlamaChoice(ThreadedChoice):
    """One continuation of a prompt; the last of ``generated`` is not in the cache yet.

    ``drafter``, where it is set, is called once by the worker. ``seed`` is that of the numbers by which drafts of
    another model are weighed; the sampler has its own.
    """

    def __init__(
        self,
        listener: Listener,
        index: int,
        prompt: list[int],
        request: Request,
        model: Model,
        sampler: Callable[[], Sampler],
        lock: threading.Lock,
        seed: int,
    ) -> None:
        super().__init__(listener, index, prompt, request, model.vocabulary, lock)
        self.seed = seed
        self.drafter: Callable[[], Drafter] | None = None
        self._line: Line | None = None
        self.sequence: CachedSequence | None = None
        self._model = model
        self._make_sampler = sampler
        self._sampler: Sampler | None = None
        self._rng: np.random.Generator | None = None

    @property
    def line(self) -> Line | None:
        """Where drafts for it come from, if any are to be made."""
        if self._line is None and self.drafter is not None:
            self._line = Line(self.drafter())
        return self._line

    @property
    def last(self) -> int:
        """The token that the next step puts into the cache."""
        return self.generated[-1]

    def draw(self, logits: Callable[[int], NDArray[np.float32]], draft: Draft) -> list[int]:
        """The next token, and more as far as the draft stands; nothing after one that ends the turn.

        ``logits(i)`` are those after i tokens of the draft. The text follows the same law as without drafts; where the
        draft was not drawn but known, by the same numbers, too.
        """
        return self._compared(logits, draft.tokens) if draft.laws is None else self._weighed(logits, draft)

    def _compared(self, logits: Callable[[int], NDArray[np.float32]], draft: Sequence[int]) -> list[int]:
        """The target draws as long as it draws what was drafted."""
        if self._sampler is None:
            self._sampler = self._make_sampler()
        made: list[int] = []
        for place in range(len(draft) + 1):
            token = self._sampler.draw(logits(place))
            made.append(token)
            if place == len(draft) or token != draft[place] or self._model.vocabulary.ends(token):
                break
        return made

    def _weighed(self, logits: Callable[[int], NDArray[np.float32]], draft: Draft) -> list[int]:
        """Tokens that were drawn from laws of their own are accepted or drawn anew (``speculative.accept``)."""
        assert draft.laws is not None
        places = range(len(draft) + 1)
        target = np.stack([laws(logits(place), self.request.sampling) for place in places])
        if self._rng is None:
            self._rng = np.random.default_rng((self.seed, 2))
        uniforms = self._rng.random((1, len(places)))
        verdict = accept(target[None], np.array([draft.tokens]), draft.parents, draft.laws[None], uniforms)
        made = [*draft.tokens[: int(verdict.accepted.sum())], int(verdict.token[0])]
        ends = next((i for i, token in enumerate(made) if self._model.vocabulary.ends(token)), len(made))
        return made[: ends + 1]

    def advance(self, token: int, logits: NDArray[np.float32], room: int) -> None:
        """Go on by a token that was drawn; ``room`` is how many more the context would hold."""
        self.append(token, room, lambda: self._measure(token, logits))

    def _measure(self, token: int, logits: NDArray[np.float32]) -> tuple[float, TopLogprobs]:
        count = self.request.sampling.top_logprobs
        spell = self._model.vocabulary.piece
        best = top_logprobs(logits, count) if count else []
        return logprob(logits, token), tuple((spell(i).decode(errors="replace"), value) for i, value in best)

    def release(self) -> None:
        """Free its native memory; called by the worker, once it is through with it."""
        if self._sampler is not None:
            self._sampler.free()
            self._sampler = None


class Reading:
    """A text that is being read: the shared prompt of ``choices``, or one that is only warmed or scored.

    Row i of the logits is what the model expects after token i. ``first_row`` is the first that is wanted, by
    ``on_row`` where it is given, and otherwise by the choices, which need the last. What is ``lasting`` is pinned in
    the cache once it is read.
    """

    def __init__(
        self,
        tokens: list[int],
        choices: list[LlamaChoice],
        *,
        first_row: int | None = None,
        lasting: bool = False,
        on_row: Callable[[int, NDArray[np.float32]], None] | None = None,
        on_end: Callable[[EngineError | None], None] | None = None,
    ) -> None:
        self.tokens, self.choices = tokens, choices
        self.first_row = len(tokens) - 1 if first_row is None else first_row
        self.lasting = lasting
        self.on_row, self.on_end = on_row, on_end
        self.sequence: CachedSequence | None = None
        self.cancelled = False

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for it."""
        return any(not c.closed for c in self.choices) if self.choices else not self.cancelled
