"""One choice of a generation, put together from its pieces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fathom.language.engines.base import CallPart, Finish, Piece, Span
from fathom.records import ToolCall, Trajectory

__all__ = ["Choice"]


@dataclass(slots=True)
class Choice:
    """A choice that is being generated."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[tuple[float, ...]] = field(default_factory=list)
    spelled: list[bytes] = field(default_factory=list)
    likeliest: list[tuple[str, ...]] = field(default_factory=list)
    calls: list[CallPart] = field(default_factory=list)
    tokens: int = 0
    finish: Finish | None = None
    stopped_by: str | None = None
    error: str | None = None
    complete: bool = False  # cut by ourselves, because all that was wanted is there
    weak: bool = False  # cut by ourselves, because the model became too unsure of it

    def add(self, piece: Piece) -> None:
        self.text.append(piece.text)
        self.reasoning.append(piece.reasoning)
        self.ids.extend(piece.token_ids)
        self.logprobs.extend(piece.logprobs)
        if piece.top_logprobs:
            self.top_logprobs.extend(tuple(logprob for _, logprob in top) for top in piece.top_logprobs)
            self.likeliest.extend(tuple(token for token, _ in top) for top in piece.top_logprobs)
        if piece.spelled:
            self.spelled.extend(piece.spelled)
        if piece.calls:
            self.calls.extend(piece.calls)
        self.tokens += piece.tokens
        if piece.finish is not None:
            self.finish = piece.finish
            self.stopped_by = piece.stopped_by
            self.error = str(piece.error) if piece.error else None

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The functions that it wants called, put together, in order."""
        parts: dict[int, list[CallPart]] = {}
        for part in self.calls:
            parts.setdefault(part.index, []).append(part)
        return tuple(
            ToolCall(
                next((part.id for part in call if part.id), ""),
                "".join(part.name for part in call),
                "".join(part.arguments for part in call),
            )
            for _, call in sorted(parts.items())
        )

    def tokens_after(self, before: Trajectory) -> dict[str, Any]:
        """What is known of a trajectory's tokens when these follow ``before``: the fields of ``Trajectory`` that have
        an entry for each."""
        return {
            "logprobs": (*before.logprobs, *self.logprobs),
            "top_logprobs": (*before.top_logprobs, *self.top_logprobs),
            "spelled": (*before.spelled, *self.spelled),
            "likeliest": (*before.likeliest, *self.likeliest),
        }

    @property
    def span(self) -> Span:
        reasoning, text = "".join(self.reasoning), "".join(self.text)
        if reasoning:
            return Span(f"<think>{reasoning}</think>\n{text}" if text else f"<think>{reasoning}")
        return Span(text, tuple(self.ids))
