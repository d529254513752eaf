"""One upstream request as it is answered: which choices it fills, what they said, and whose tokens are whose.

A server counts the tokens of a reply once, at its end. Choices that end earlier carry what was counted on the way (one
token per log-probability, or else per event); the last one settles the difference, so that the sum is the server's.
Where the server's count never comes, the pieces keep what was seen and are marked as estimated.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Protocol

import msgspec

from fathom.language.engines.base import CHARACTERS, CallPart, Finish, Piece, Request
from fathom.language.engines.openai_dialect import Dialect
from fathom.language.engines.openai_wire import (
    Choice,
    Delta,
    Function,
    Reply,
    TokenLogprob,
    ToolCall,
    Usage,
    decode,
    refusal,
)
from fathom.language.engines.upstream import Failure, Upstream

__all__ = ["Audience", "Exchange"]

EARLY = 8  # events of the first choice alone, after which a server is taken to ignore n


FINISHES = {"length": Finish.LENGTH, "max_tokens": Finish.LENGTH, "model_length": Finish.LENGTH}
FAILURES = {
    "content_filter": "the server's content filter withheld the text",
    "abort": "the server aborted the choice",
    "error": "the server failed in the midst of the choice",
}
EMPTY = Delta()


class Audience(Protocol):
    """Who listens to an exchange: the generation."""

    dialect: Dialect

    @property
    def upstream(self) -> Upstream: ...

    @property
    def request(self) -> Request: ...

    def emit(self, piece: Piece) -> None:
        """Pass a piece on, unless its choice has ended already."""

    def wants(self, index: int) -> bool:
        """Whether choice ``index`` is still open."""

    def alone(self, exchange: Exchange) -> None:
        """A good deal of the first of several choices came, and nothing of any other."""

    def read(self, prompt_tokens: int) -> None:
        """The server told how long the prompt is."""


class Exchange:
    """The reply to one upstream request that is to fill the choices ``indices``, a list that `narrow` shortens."""

    def __init__(self, audience: Audience, indices: list[int]) -> None:
        self.indices = indices
        self.sent = False
        self.heard = False  # the server accepted the request
        self.done = False  # [DONE] came
        self._audience = audience
        self._counted: dict[int, int] = {}  # tokens of the choices of which anything came, by their index on the wire
        self._ended: set[int] = set()
        self._charged: set[int] = set()  # choices that an account of the server's covered
        self._logged = False  # log-probabilities came: they count the tokens
        self._usage: Usage | None = None  # the latest account that came beside a choice
        self._drafted: dict[
            int, tuple[int, int]
        ] = {}  # drafted tokens accepted and rejected, as last told for a choice
        self._fresh: dict[int, Piece] = {}  # what the events of one read brought, choice by choice
        self._held: tuple[int, Piece] | None = None  # the choice that ended last: the account may follow

    @property
    def ended(self) -> bool:
        """Every choice that anybody wants has ended; at most the account is still to come."""
        return not any(self._audience.wants(index) for at, index in enumerate(self.indices) if at not in self._ended)

    @property
    def complete(self) -> bool:
        """Every choice has ended, those that nobody wants included."""
        return len(self._ended) >= len(self.indices)

    @property
    def choices(self) -> int:
        """How many choices anything came of."""
        return len(self._counted)

    def touched(self, index: int) -> bool:
        return self.indices.index(index) in self._counted

    def narrow(self) -> list[int]:
        """Fill the first choice only; gives the others."""
        rest = self.indices[1:]
        del self.indices[1:]
        return rest

    def take_event(self, data: bytes) -> Failure | None:
        """One event of a stream."""
        if data.strip() == b"[DONE]":
            self.done = True
            return None
        reply = self._decoded(data)
        if isinstance(reply, Failure):
            return reply
        for choice in reply.choices or ():
            self._take_delta(choice)
        if any(reply.drafted):
            self._drafted[reply.choices[0].index if reply.choices else -1] = reply.drafted
        if reply.usage is not None:
            if reply.choices or self._held is None:
                self._usage = reply.usage
            else:
                self._account(reply.usage)
        return None

    def _take_delta(self, choice: Choice) -> None:
        at, audience = choice.index, self._audience
        if not 0 <= at < len(self.indices) or at in self._ended:
            return
        index = self.indices[at]
        counted = self._counted.setdefault(at, 0)
        if len(self._counted) == 2 and not audience.dialect.proven:
            audience.dialect = replace(audience.dialect, proven=True)
        delta = choice.delta or choice.message or EMPTY
        text, thought = delta.content or delta.refusal or "", delta.thought
        logs = choice.logprobs.content if choice.logprobs else None
        calls = _calls(delta.tool_calls) if delta.tool_calls else ()
        if (text or thought or logs or calls) and audience.wants(index):
            self._release()
            self._logged = self._logged or bool(logs)
            tokens = len(logs) if logs else 0 if self._logged else 1
            self._counted[at] = counted + tokens
            self._grow(at, Piece(index, text, tokens, reasoning=thought, calls=calls), logs)
            if counted < EARLY <= counted + tokens and len(self._counted) == 1 < len(self.indices):
                audience.alone(self)
        if choice.finish_reason:
            self._end(at, choice.finish_reason, choice.stopped_by)

    def _grow(self, at: int, piece: Piece, logs: list[TokenLogprob] | None) -> None:
        """Add to what the read brought of a choice: a fast stream makes fewer, longer pieces."""
        _attach(piece, logs, self._audience.request)
        fresh = self._fresh.setdefault(at, piece)
        if fresh is not piece:
            fresh.text += piece.text
            fresh.reasoning += piece.reasoning
            fresh.tokens += piece.tokens
            fresh.logprobs += piece.logprobs
            fresh.top_logprobs += piece.top_logprobs
            fresh.spelled += piece.spelled
            fresh.calls += piece.calls

    def flush(self) -> None:
        """Emit what the events since the last time brought."""
        for piece in self._fresh.values():
            self._audience.emit(piece)
        self._fresh.clear()

    def _end(self, at: int, reason: str, stopped_by: str | None = None) -> None:
        self._ended.add(at)
        index = self.indices[at]
        if self._audience.wants(index):
            self._release()
            self._held = at, self._last(Piece(index), reason, stopped_by)

    def _account(self, usage: Usage) -> None:
        """Settle by what the server counted.

        Where other choices still run it speaks of the one that ended last (llama.cpp does), or else of all the rest.
        """
        if self._held is None:
            return
        at, piece = self._held
        running = self._counted.keys() - self._ended
        covered = {at} if running else self._counted.keys() - self._charged
        if (generated := usage.generated) is not None:
            piece.tokens += generated - sum(self._counted[k] for k in covered)
            self._charged |= covered
        self._charge_prompt(piece, usage)
        if running:
            self._release()

    def _release(self) -> None:
        """Emit the piece that was held back for an account."""
        if self._held is not None:
            self.flush()
            piece = self._held[1]
            for accepted, rejected in self._drafted.values():
                piece.accepted_draft_tokens += accepted
                piece.rejected_draft_tokens += rejected
            self._drafted.clear()
            self._audience.emit(piece)
            self._held = None

    def hurry(self, index: int) -> None:
        """Do not wait for the account of choice ``index``, if that is all that it waits for."""
        if self._held is not None and self.indices[self._held[0]] == index:
            if self.ended:
                self.settle()
            else:
                self._release()

    def settle(self) -> None:
        """The account as far as it came: nothing follows any more."""
        self.flush()
        self._miss_logprobs()
        if self._usage is not None:
            self._account(self._usage)
            self._usage = None
        if self._held is not None:
            at, piece = self._held
            piece.estimated = at not in self._charged and not self._logged
            self._release()

    def finish(self) -> Failure | None:
        """The stream is over. Gives what is to be said of the choices that it left unfinished."""
        audience = self._audience
        if self.done:  # some servers never say why a choice ended
            for at in self._counted.keys() - self._ended:
                self._end(at, "stop")
        self.settle()
        if not self.done and (not self._counted or self._counted.keys() - self._ended):
            return audience.upstream.failure("the stream broke off before its end", again=True)
        return None if self._counted else audience.upstream.failure("a reply without choices")

    def take_whole(self, raw: bytes) -> Failure | None:
        """A reply that comes in one."""
        reply = self._decoded(raw)
        if isinstance(reply, Failure):
            return reply
        audience = self._audience
        choices = (reply.choices or [])[: len(self.indices)]
        if not choices:
            return audience.upstream.failure("a reply without choices")
        if len(choices) > 1 and not audience.dialect.proven:
            audience.dialect = replace(audience.dialect, proven=True)
        pieces = [self._whole(index, choice) for index, choice in zip(self.indices, choices, strict=False)]
        counts, estimated = self._shares(reply, pieces)
        self._counted = dict(enumerate(counts))
        self._ended.update(self._counted)
        wanted = [piece for piece in pieces if audience.wants(piece.index)]
        self._miss_logprobs()
        for piece, count in zip(pieces, counts, strict=True):
            piece.tokens, piece.estimated = count, estimated
        if wanted:
            wanted[-1].tokens += sum(piece.tokens for piece in pieces if not audience.wants(piece.index))
            if reply.usage is not None:
                self._charge_prompt(wanted[0], reply.usage)
            wanted[0].accepted_draft_tokens, wanted[0].rejected_draft_tokens = reply.drafted
        for piece in wanted:
            audience.emit(piece)
        return None

    def _miss_logprobs(self) -> None:
        """Log-probabilities that were asked for and do not come with the tokens: the server has none."""
        audience = self._audience
        if audience.request.sampling.logprobs and not self._logged and any(self._counted.values()):
            audience.dialect = replace(audience.dialect, logprobs=False)

    def _whole(self, index: int, choice: Choice) -> Piece:
        audience = self._audience
        message = choice.message or choice.delta or EMPTY
        piece = Piece(index, message.content or message.refusal or "", reasoning=message.thought)
        if message.tool_calls:
            piece.calls = _calls(message.tool_calls)
        if audience.dialect.prefix == "native":  # llama.cpp repeats the beginning in a whole reply, not in a stream
            piece.text = piece.text.removeprefix(audience.request.prompt.prefix_text)
        _attach(piece, choice.logprobs.content if choice.logprobs else None, audience.request)
        self._logged = self._logged or bool(piece.logprobs)
        if message.content is None and not (piece.text or piece.reasoning or piece.calls):
            return self._failed(piece, "sent a choice without text")
        return self._last(piece, choice.finish_reason or "stop", choice.stopped_by)

    def _shares(self, reply: Reply, pieces: list[Piece]) -> tuple[list[int], bool]:
        """The tokens of each choice of a whole reply, and whether they are estimates."""
        audience = self._audience
        total = reply.usage.generated if reply.usage else None
        if total is not None and len(pieces) == 1:
            return [total], False
        timed = reply.timings.predicted_n if reply.timings else None
        first_only = total is not None and total == timed
        if first_only and not audience.dialect.one_choice_usage:
            audience.dialect = replace(audience.dialect, one_choice_usage=True)
        if all(piece.logprobs or not piece.text for piece in pieces) and self._logged:
            counts = [len(piece.logprobs) for piece in pieces]
            if total is not None and not first_only:
                counts[-1] += total - sum(counts)
            return counts, False
        sizes = [len(piece.text) + len(piece.reasoning) + _written(piece.calls) + 1 for piece in pieces]
        if total is None:
            return [-(-size // CHARACTERS) for size in sizes], True
        if first_only:
            return [max(1, round(total * size / sizes[0])) for size in sizes], True
        return _apportioned(total, sizes), False

    def _decoded(self, data: bytes) -> Reply | Failure:
        upstream = self._audience.upstream
        try:
            reply = decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            said = data[:120].decode("utf-8", "replace")
            return upstream.failure(f"sent what is no chat completion ({error}): {said}")
        if not reply.failed:
            return reply
        said_ = refusal(reply.error or {"message": reply.message})
        if said_.status:
            return upstream.answered(said_.status, said_.message)
        return upstream.failure(f"reported an error: {said_.message}")

    def _last(self, piece: Piece, reason: str, stopped_by: str | None = None) -> Piece:
        if reason in FAILURES:
            return self._failed(piece, FAILURES[reason])
        piece.finish = FINISHES.get(reason, Finish.STOP)
        piece.stopped_by = stopped_by if piece.finish is Finish.STOP else None
        return piece

    def _failed(self, piece: Piece, why: str) -> Piece:
        piece.finish, piece.error = Finish.FAILED, self._audience.upstream.failure(why).error
        return piece

    def _charge_prompt(self, piece: Piece, usage: Usage) -> None:
        anew, reused = usage.read
        if anew or reused:
            piece.prompt_tokens += anew
            piece.reused_tokens += reused
            self._audience.read(anew + reused)


def _attach(piece: Piece, logs: list[TokenLogprob] | None, request: Request) -> Piece:
    """The log-probabilities, where they were asked for: some servers send them anyway, or more of them."""
    if logs and request.sampling.logprobs:
        piece.logprobs = tuple(token.logprob for token in logs)
        piece.spelled = tuple(token.token.encode() if token.bytes is None else _bytes(token) for token in logs)
        if most := request.sampling.top_logprobs:
            piece.top_logprobs = tuple(
                tuple((top.token, top.logprob) for top in (token.top_logprobs or ())[:most]) for token in logs
            )
    return piece


def _bytes(token: TokenLogprob) -> bytes:
    try:
        return bytes(token.bytes or ())
    except ValueError:  # no bytes at all
        return token.token.encode()


def _calls(calls: list[ToolCall]) -> tuple[CallPart, ...]:
    """Tool calls, or what is new of them. One that begins without an id is given one: its result is to name it."""
    parts: list[CallPart] = []
    for at, call in enumerate(calls):
        said = call.function or Function()
        arguments = said.arguments if isinstance(said.arguments, str | None) else msgspec.json.encode(said.arguments)
        if isinstance(arguments, bytes):
            arguments = arguments.decode()
        id = call.id or (f"call_{secrets.token_hex(12)}" if said.name else "")
        parts.append(CallPart(at if call.index is None else call.index, id, said.name or "", arguments or ""))
    return tuple(parts)


def _written(calls: tuple[CallPart, ...]) -> int:
    return sum(len(call.name) + len(call.arguments) for call in calls)


def _apportioned(total: int, sizes: list[int]) -> list[int]:
    """``total`` in whole shares that are in proportion to ``sizes``: largest remainders."""
    whole = sum(sizes)
    shares = [total * size // whole for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda k: -(total * sizes[k] % whole))
    for k in by_remainder[: total - sum(shares)]:
        shares[k] += 1
    return shares
