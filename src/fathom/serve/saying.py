"""What a model said, in OpenAI's words: calls of tools, log-probabilities, why it ended."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Sequence

from fathom.language.engines.base import CallPart, Finish, Piece
from fathom.records import ToolCall, Trajectory
from fathom.serve import wire

__all__ = ["call_deltas", "calls", "finish", "logprobs", "logprobs_of", "logprobs_of_piece"]

_NEVER = -9999.0  # OpenAI's word for what could not have been drawn; JSON has none for minus infinity
_FINISHES = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.CANCELLED: "length"}


def finish(ended: Finish | None, called: Sequence[object]) -> str:
    """Why an output ended; ``called`` are the tools that it asks for."""
    if ended is Finish.STOP and called:
        return "tool_calls"
    return _FINISHES[ended or Finish.CANCELLED]


def calls(said: Iterable[ToolCall]) -> list[wire.ToolCall] | None:
    """Whole calls, None for none."""
    return [wire.ToolCall(call.id, wire.FunctionCall(call.name, call.arguments)) for call in said] or None


def call_deltas(parts: Iterable[CallPart]) -> list[wire.ToolDelta] | None:
    """What is new of calls: where one begins its id, type and name as well."""
    return [
        wire.ToolDelta(
            part.index,
            part.id or None,
            "function" if part.id else None,
            {**({"name": part.name} if part.name else {}), "arguments": part.arguments},
        )
        for part in parts
    ] or None


def logprobs(
    spelled: Sequence[bytes], logprobs: Sequence[float], tops: Sequence[Sequence[tuple[str, float]]], count: int
) -> wire.Logprobs:
    """Of the given tokens, with the ``count`` likeliest at each. The bytes of a token that is no whole text are told
    where it was drawn itself; of others that is not known."""
    told: list[wire.TokenLogprob] = []
    for token, value, top in zip(spelled, logprobs, tops or [()] * len(spelled), strict=False):
        best = [_top(text, x) for text, x in top[:count]]
        told.append(wire.TokenLogprob(token.decode(errors="replace"), max(value, _NEVER), list(token), best))
    return wire.Logprobs(told)


def _top(token: str, logprob: float) -> wire.TopLogprob:
    return wire.TopLogprob(token, max(logprob, _NEVER), None if "\ufffd" in token else list(token.encode()))


def logprobs_of_piece(piece: Piece, count: int) -> wire.Logprobs | None:
    """Of the new tokens of a choice, None for none."""
    return logprobs(piece.spelled, piece.logprobs, piece.top_logprobs, count) if piece.logprobs else None


def logprobs_of(trajectory: Trajectory, shown: str, count: int) -> wire.Logprobs:
    """Of the tokens of a trajectory that spell what is shown of it; of all that it generated where other words, such as
    the cue to conclude, stand among them."""
    spelled, wanted = trajectory.spelled, shown.encode()
    begin, end = 0, len(spelled)
    at = b"".join(spelled).rfind(wanted)
    if wanted and at >= 0:
        ends = list(itertools.accumulate(map(len, spelled)))
        begin, end = bisect.bisect_right(ends, at), bisect.bisect_left(ends, at + len(wanted)) + 1
    tops = [
        list(zip(tokens, values, strict=False))
        for tokens, values in zip(trajectory.likeliest, trajectory.top_logprobs, strict=False)
    ]
    return logprobs(spelled[begin:end], trajectory.logprobs[begin:end], tops[begin:end], count)
