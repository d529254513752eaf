"""Reading a generation to its end, choice by choice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fathom.language.engines.base import Engine, EngineError, Finish, Piece, Prompt, Request, Span
from fathom.records import Message


@dataclass
class Heard:
    """All that came of one choice."""

    pieces: list[Piece] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        """Sums of the pieces' texts, counts and log-probabilities."""
        values = [getattr(piece, name) for piece in self.pieces]
        return "".join(values) if values and isinstance(values[0], str) else sum(values[1:], start=values[0])

    @property
    def last(self) -> Piece:
        return self.pieces[-1]

    @property
    def finish(self) -> Finish | None:
        return self.last.finish

    @property
    def error(self) -> EngineError | None:
        return self.last.error


def request(*, prefix: str = "", question: str = "What is it?", **more: Any) -> Request:
    return Request(Prompt((Message("user", question),), (Span(prefix),) if prefix else ()), **more)


async def hear(engine: Engine, asked: Request | None = None, **more: Any) -> list[Heard]:
    """What came of each choice. Fails where a choice did not end exactly once, with its last piece."""
    asked = asked or request(**more)
    heard = [Heard() for _ in range(asked.n)]
    async with engine.generate(asked) as generation:
        async for piece in generation:
            heard[piece.index].pieces.append(piece)
    for choice in heard:
        assert [piece.finish is not None for piece in choice.pieces] == [False] * (len(choice.pieces) - 1) + [True]
    return heard
