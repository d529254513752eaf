"""Asking an embedded model, and all that came of each choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fathom.language.engines.base import Engine, Finish, Piece, Prompt, Request, Sampling, Span
from fathom.language.engines.llama import LlamaEngine
from fathom.records import Message

GREEDY = Sampling(temperature=0.0)
STORY = "Write a short story about a dragon who cannot fly."


def ask(text: str, *prefix: Span, system: str = "") -> Prompt:
    messages = (Message("user", text),)
    return Prompt((Message("system", system), *messages) if system else messages, prefix)


@dataclass
class Told:
    """All that came of one choice."""

    text: str = ""
    ids: tuple[int, ...] = ()
    tokens: int = 0
    read: int = 0
    reused: int = 0
    pieces: list[Piece] = field(default_factory=list)
    finish: Finish | None = None

    @property
    def span(self) -> Span:
        return Span(self.text, self.ids)

    def add(self, piece: Piece) -> None:
        assert self.finish is None, "a piece came after the last one"
        self.text += piece.text
        self.ids += piece.token_ids
        self.tokens += piece.tokens
        self.read += piece.prompt_tokens
        self.reused += piece.reused_tokens
        self.pieces.append(piece)
        self.finish = piece.finish


async def collect(engine: Engine, request: Request, *, cancel: Sequence[int] = ()) -> list[Told]:
    """Run a request to its end; ``cancel`` names choices that are cancelled at the first piece."""
    told = [Told() for _ in range(request.n)]
    async with engine.generate(request) as generation:
        async for piece in generation:
            told[piece.index].add(piece)
            while cancel:
                generation.cancel(cancel[0])
                cancel = cancel[1:]
    assert all(t.finish is not None for t in told)
    return told


def endless(engine: LlamaEngine, temperature: float | None = None) -> Sampling:
    """The model never ends its turn, so that a text is as long as was asked."""
    vocabulary = engine._model.vocabulary
    ends = [token for token in range(vocabulary.size) if vocabulary.ends(token)]
    return Sampling(temperature=temperature, logit_bias=dict.fromkeys(ends, float("-inf")))


def assert_alike(found: Sequence[float], expected: Sequence[float]) -> None:
    """The same log-probabilities, as far as kernels for one row and for several agree: of these quantised models within
    0.4 at single tokens, where a text that is not the same is off by whole units at most of them.
    """
    off = [abs(a - b) for a, b in zip(found, expected, strict=True)]
    assert max(off, default=0.0) < 2.0
    assert sum(off) <= 0.3 * len(off) + 0.5


async def assert_greedy(engine: LlamaEngine, prompt: Prompt, ids: Sequence[int]) -> None:
    """Each token is the likeliest after those before it, as ``engine`` sees it, or tied with it up to rounding."""
    sampling = replace(GREEDY, top_logprobs=1)
    for place, token in enumerate(ids):
        begun = replace(prompt, prefix=(*prompt.prefix, Span("", tuple(ids[:place])))) if place else prompt
        (told,) = await collect(engine, Request(begun, max_tokens=1, sampling=sampling))
        if told.ids != (token,):
            (value,) = await engine.score(begun, Span("", (token,)))
            assert value > max(p for piece in told.pieces for best in piece.top_logprobs for _, p in best) - 1.0
