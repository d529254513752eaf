"""The choices of one prompt, advanced together by transformers: the prompt is read once, its cache is expanded.

All rows of a batch are equally long, so that no row is padded. Where drafts are verified, all rows advance by as much
as the one whose draft was soonest wrong: what the others had accepted beyond that is drawn anew, which leaves the law
as it is, since where a row is cut depends on the others alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.language.drafting import Drafter, Line, Lookahead
from fathom.language.engines.base import Request
from fathom.language.engines.hf_cache import KeptText, PrefixCache, row
from fathom.language.engines.hf_model import HFModel
from fathom.language.engines.hf_sampling import Uniforms, draw, measure
from fathom.language.engines.threaded import Listener, ThreadedChoice, TopLogprobs
from fathom.language.speculative import Draft, accept, laws

__all__ = ["HFBatch", "HFChoice"]


class HFChoice(ThreadedChoice):
    """One continuation; the last of ``generated`` is not in the cache yet."""

    def __init__(
        self,
        listener: Listener,
        index: int,
        prompt: list[int],
        request: Request,
        model: HFModel,
        lock: threading.Lock,
        seed: int,
    ) -> None:
        super().__init__(listener, index, prompt, request, model.vocabulary, lock)
        self.seed = seed
        self.uniforms = Uniforms(seed)
        self.drafter: Callable[[], Drafter] | None = None  # made by the thread that owns the model
        self.line: Line | None = None


class HFBatch:
    """A prompt that is read, and then the choices that go on from it. ``limit`` is how long a text may become."""

    def __init__(
        self,
        model: HFModel,
        kept: PrefixCache,
        choices: Sequence[HFChoice],
        lookahead: Lookahead | None,
        *,
        limit: int,
    ) -> None:
        self.choices = list(choices)
        self.prompt = choices[0].prompt
        self._model, self._kept, self._lookahead, self._limit = model, kept, lookahead, limit
        text, self._length = kept.longest(self.prompt[:-1])
        self._cache = model.cache(text.layers if text else (), self._length)
        self.reading = True
        for choice in self.choices:
            choice.line = Line(choice.drafter()) if choice.drafter else None
            choice.account(len(self.prompt), self._length, first=choice is self.choices[0])

    def reap(self) -> None:
        """Drop the choices that ended or were cancelled; what was read of them is kept for others."""
        left = [i for i, choice in enumerate(self.choices) if not choice.closed]
        if len(left) == len(self.choices):
            return
        if not self.reading:
            for i, choice in enumerate(self.choices):
                if choice.closed:
                    self._keep(i, choice)
            if left:
                self._cache.batch_select_indices(self._model.torch.tensor(left, device=self._model.device))
        elif not left and self._length:
            self._kept.keep(KeptText(self.prompt[: self._length], row(self._cache, 0, self._length)))
        self.choices = [self.choices[i] for i in left]

    def _keep(self, index: int, choice: HFChoice) -> None:
        tokens = [*choice.prompt, *choice.generated][: self._length]
        self._kept.keep(KeptText(tokens, row(self._cache, index, len(tokens))))

    def step(self) -> None:
        """Read a piece of the prompt, or advance all choices by a token or more."""
        if self.reading:
            self._read()
        else:
            self._decode()

    def _read(self) -> None:
        piece = self.prompt[self._length : self._length + self._model.piece]
        logits = self._model.forward([piece], self._cache, keep=1)
        self._length += len(piece)
        if self._length < len(self.prompt):
            return
        self.reading = False
        self._kept.keep(KeptText(list(self.prompt), row(self._cache, 0, self._length)))
        n = len(self.choices)
        if n > 1:
            self._cache.batch_repeat_interleave(n)
        logits = logits.expand(n, -1, -1)
        made, nodes = self._verified(logits, [Draft()] * n)
        for choice, tokens in zip(self.choices, made, strict=True):
            if choice.line is not None:
                choice.line.drafter.extend(tokens)
        self._append(logits, made, nodes, before=self._length)

    def _decode(self) -> None:
        lines = [choice.line for choice in self.choices if choice.line is not None]
        ahead = self._lookahead if len(lines) == len(self.choices) else None
        left = min(choice.request.max_tokens - len(choice.generated) for choice in self.choices)
        begin = self._model.clock()
        most = min(left, self._limit - self._length) - 1
        drafts = ahead.draft(lines, most) if ahead else [Draft()] * len(self.choices)
        rows = [[choice.generated[-1], *draft.tokens] for choice, draft in zip(self.choices, drafts, strict=True)]
        logits = self._model.forward(rows, self._cache, keep=len(rows[0]), **self._mask(drafts[0]))
        made, nodes = self._verified(logits, drafts)
        before = self._length + 1
        self._cut(len(rows[0]), nodes)
        if ahead is not None:
            accepted = ahead.settle(lines, made, self._model.clock() - begin)
            for choice, draft, right in zip(self.choices, drafts, accepted, strict=True):
                choice.drafted(right, len(draft) - right)
        self._append(logits, made, nodes, before=before)

    def _mask(self, draft: Draft) -> dict[str, Any]:
        """For a tree: each node sees the text and its ancestors, and stands where it would in the text."""
        if draft.is_chain:
            return {}
        torch, count = self._model.torch, len(draft) + 1
        sees = torch.eye(count, dtype=torch.bool)
        depths = [0]
        for node, parent in enumerate(draft.parents):
            sees[node + 1] |= sees[parent + 1]
            depths.append(depths[parent + 1] + 1)
        whole = torch.cat([torch.ones(count, self._length, dtype=torch.bool), sees], dim=1)
        kind = self._model.model.dtype
        mask = torch.zeros(whole.shape, dtype=kind).masked_fill(~whole, torch.finfo(kind).min)
        places = torch.tensor([depths]) + self._length
        return {
            "attention_mask": mask[None, None].to(self._model.device),
            "position_ids": places.to(self._model.device),
        }

    def _verified(self, logits: Any, drafts: Sequence[Draft]) -> tuple[list[list[int]], list[int]]:
        """The next tokens of each row, equally many; and the nodes that they run along but for the last, which are
        the same for all rows.
        """
        if drafts[0].laws is not None:
            found = [self._weighed(i, logits, draft) for i, draft in enumerate(drafts)]
        else:
            drawn = self._drawn(logits, drafts[0])
            found = [_followed(draft, tokens) for draft, tokens in zip(drafts, drawn, strict=True)]
        count = min(len(tokens) for tokens, _ in found)
        if drafts[0].laws is None:
            for choice in self.choices:
                choice.uniforms.use(count)
        return [tokens[:count] for tokens, _ in found], found[0][1][: count - 1]

    def _drawn(self, logits: Any, draft: Draft) -> NDArray[np.int64]:
        """What the target draws after each node, with the numbers that plain decoding would draw it with."""
        depths = [0]
        for parent in draft.parents:
            depths.append(depths[parent + 1] + 1)
        ahead = [choice.uniforms.look(max(depths) + 1) for choice in self.choices]
        numbers = [[each[depth] for depth in depths] for each in ahead]
        return draw(self._model.torch, logits, self.choices[0].request.sampling, numbers)

    def _weighed(self, index: int, logits: Any, draft: Draft) -> tuple[list[int], list[int]]:
        """The same for a draft that was drawn from laws of its own."""
        choice = self.choices[index]
        assert draft.laws is not None
        target = laws(logits[index].cpu().numpy(), choice.request.sampling)[None]
        numbers = np.array([choice.uniforms.look(len(draft) + 1)])
        choice.uniforms.use(len(draft) + 1)
        verdict = accept(target, np.array([draft.tokens]), draft.parents, draft.laws[None], numbers)
        nodes = [int(node) for node in np.flatnonzero(verdict.accepted[0])]
        return [*(draft.tokens[node] for node in nodes), int(verdict.token[0])], nodes

    def _cut(self, rows: int, nodes: Sequence[int]) -> None:
        """Leave in the cache the token before the drafts, and the nodes that stand."""
        base = self._length
        self._length = base + 1 + len(nodes)
        if list(nodes) == list(range(len(nodes))):
            if rows > 1 + len(nodes):
                self._cache.crop(1 + len(nodes) - rows)
            return
        torch = self._model.torch
        held = torch.tensor([*range(base + 1), *(base + 1 + node for node in nodes)], device=self._model.device)
        for layer in self._cache.layers:
            layer.keys, layer.values = layer.keys.index_select(2, held), layer.values.index_select(2, held)

    def _append(self, logits: Any, made: Sequence[Sequence[int]], nodes: Sequence[int], *, before: int) -> None:
        """Give the choices their tokens; ``before`` is how long the text was before the first of them."""
        measured = self._measured(logits, np.array(made), [0, *(node + 1 for node in nodes)])
        for i, choice in enumerate(self.choices):
            for place, token in enumerate(made[i]):
                if choice.closed:
                    break
                logged = (lambda i=i, place=place: measured[i][place]) if measured else None
                choice.append(token, self._limit - before - place, logged)

    def _measured(
        self, logits: Any, tokens: NDArray[np.int64], places: Sequence[int]
    ) -> list[list[tuple[float, TopLogprobs]]]:
        """Log-probabilities of the tokens of each row, where they are wanted."""
        if not any(choice.measured for choice in self.choices):
            return []
        count = self.choices[0].request.sampling.top_logprobs
        chosen, ids, values = measure(self._model.torch, logits[:, list(places)], tokens, count)
        spell = self._model.vocabulary.piece
        return [
            [
                (chosen[i][j], tuple((spell(t).decode(errors="replace"), v) for t, v in zip(*best, strict=True)))
                for j, best in enumerate(zip(ids[i], values[i], strict=True))
            ]
            for i in range(len(tokens))
        ]


def _followed(draft: Draft, drawn: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """The tokens that the target drew along the draft, up to the first that was not drafted, and their nodes."""
    tokens, nodes, at = [int(drawn[0])], list[int](), -1
    while True:
        found = [i for i, parent in enumerate(draft.parents) if parent == at and draft.tokens[i] == tokens[-1]]
        if not found:
            return tokens, nodes
        at = found[0]
        nodes.append(at)
        tokens.append(int(drawn[at + 1]))
