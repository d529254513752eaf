"""Asking an embedded model, and all that came of each choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fathom.language.engines.base import Engine, Finish, Piece, Prompt, Request, Sampling, Span
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
