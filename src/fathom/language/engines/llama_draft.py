"""A smaller GGUF model that drafts for a larger one with the same tokens.

It has a context of its own with the cache of one text, since only a text that runs alone is drafted for: what another
text begins with in common is not read again. Where the law of the target is that of its logits, tokens are drawn from
the law of the smaller model, for speculative sampling (``fathom.language.speculative``). Where penalties, biases or a
schema change it, and at temperature 0, the likeliest tokens are drafted, and the target draws and compares.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fathom.errors import UsageError
from fathom.language.engines.base import Sampling
from fathom.language.engines.common_prefix import common_prefix
from fathom.language.engines.llama_c import Library
from fathom.language.engines.llama_model import Context, Model, words
from fathom.language.model_drafting import ModelDrafter

__all__ = ["DraftModel", "LlamaDrafter", "check_alike", "open_draft"]

_PIECE = 64  # tokens that are read at a time
_PADDING = 512  # rows beyond the words of one vocabulary, by which models of a family differ


def check_alike(library: Library, target: Path, draft: Path) -> None:
    """Raises UsageError unless the two files have the same tokens. Reads their vocabularies alone."""
    theirs, ours = words(library, draft), words(library, target)
    common = min(len(theirs), len(ours))
    if theirs[:common] == ours[:common] and abs(len(theirs) - len(ours)) <= _PADDING:
        return
    first = next((i for i in range(common) if theirs[i] != ours[i]), common)
    raise UsageError(
        f"{draft.name} cannot draft for {target.name}: their tokens are not the same ({len(theirs)} and {len(ours)}, "
        f"different from token {first} on); take a smaller model of the same family"
    )


def open_draft(library: Library, path: Path, beside: Context, *, cells: int, threads: int) -> DraftModel:
    """The model of a file, to draft for the one whose context is ``beside``. Raises ModelFileError, EngineError,
    and UsageError for one that cannot.
    """
    model = Model(library, path)
    try:
        if not model.causal:
            raise UsageError(f"{path.name} cannot draft: it is not a plain decoder")
        return DraftModel(library, model, beside, cells=cells, threads=threads)
    except BaseException:
        model.free()
        raise


class DraftModel:
    """The smaller model, and its cache of at most ``cells`` tokens. The thread that owns the larger one owns it, too,
    and what interrupts a step of that one interrupts this one.
    """

    def __init__(self, library: Library, model: Model, beside: Context, *, cells: int, threads: int) -> None:
        cells = min(cells, model.training_context or cells)
        self.model = model
        self.context = Context(
            library, model, cells=cells, width=1, kept=0, batch=_PIECE, threads=threads, beside=beside
        )
        self._held: list[int] = []  # the text that is in the cache

    def missing(self, text: Sequence[int]) -> int:
        """Tokens of a text that have to be read before it can go on."""
        return len(text) - self._common(text)

    def _common(self, text: Sequence[int]) -> int:
        return min(common_prefix(self._held, text), len(text) - 1)

    def read(self, text: Sequence[int]) -> NDArray[np.float32] | None:
        """Read a piece of a text: the logits after it, shape (vocabulary,), a view; None where it was interrupted, or
        the text is longer than the cache.
        """
        begin = self._common(text)
        piece = text[begin : begin + self.context.batch]
        if begin + len(piece) > self.context.cells:
            return None
        if begin < len(self._held):
            self.context.cut(0, begin)
            del self._held[begin:]
        rows = [(token, begin + i, 0, i == len(piece) - 1) for i, token in enumerate(piece)]
        if self.context.decode(rows):
            self.context.cut(0, begin)
            return None
        self._held += piece
        return self.context.logits(len(rows) - 1)

    def free(self) -> None:
        self.context.free()
        self.model.free()


class LlamaDrafter(ModelDrafter):
    """Drafts one text by the smaller model."""

    def __init__(
        self, model: DraftModel, text: Sequence[int], sampling: Sampling | None, size: int, *, seed: int
    ) -> None:
        super().__init__(text, sampling, size, seed=seed)
        self._model = model

    def _missing(self, text: Sequence[int]) -> int:
        return self._model.missing(text)

    def _go_on(self, text: Sequence[int]) -> object:
        return self._model.read(text)

    def _next(self, text: list[int]) -> NDArray[np.float32] | None:
        logits = self._model.read(text)
        return None if self._model.missing(text) > 1 else logits

    def _ends(self, token: int) -> bool:
        return self._model.model.vocabulary.ends(token)
