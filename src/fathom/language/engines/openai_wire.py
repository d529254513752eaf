"""Chat completions as they travel: the fields of a reply that are read, server-sent events, and error bodies.

Only what is needed is decoded, into typed structs, so a reply of the wrong shape is refused by the decoder and nowhere
else. The event format is that of the HTML standard, section 9.2.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

__all__ = ["Choice", "Delta", "EventStream", "Refusal", "Reply", "TokenLogprob", "Usage", "decode", "refusal"]

EVENT_BYTES = 16 << 20  # of one event
MOST_COUNTED = 1 << 40


class Function(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None  # some servers forget to write the latter as text


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Delta(msgspec.Struct, frozen=True, gc=False):
    """A choice's ``message``, or in a stream its ``delta``."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None

    @property
    def thought(self) -> str:
        return self.reasoning_content or self.reasoning or ""


class TopLogprob(msgspec.Struct, frozen=True, gc=False):
    token: str = ""
    logprob: float = 0.0


class TokenLogprob(msgspec.Struct, frozen=True, gc=False):
    logprob: float
    token: str = ""
    bytes: list[int] | None = None
    top_logprobs: list[TopLogprob] | None = None


class Logprobs(msgspec.Struct, frozen=True, gc=False):
    content: list[TokenLogprob] | None = None


class Choice(msgspec.Struct, frozen=True, gc=False):
    index: int = 0
    message: Delta | None = None
    delta: Delta | None = None
    finish_reason: str | None = None
    # what stopped it: vLLM tells the stop string, or null for the model's own end; SGLang a token id for the latter
    stop_reason: int | str | msgspec.UnsetType | None = msgspec.UNSET
    matched_stop: int | str | msgspec.UnsetType | None = msgspec.UNSET
    logprobs: Logprobs | None = None

    @property
    def stopped_by(self) -> str | None:
        """The stop string that was met, ``""`` for the model's own end, None where the server does not tell."""
        for told in (self.stop_reason, self.matched_stop):
            if told is not msgspec.UNSET:
                return told if isinstance(told, str) else ""
        return None


def _possible(told: int | None) -> int | None:
    """A number that a server says it counted; one that nobody can have counted is as good as none."""
    return told if told is not None and 0 <= told <= MOST_COUNTED else None


def _counted(told: int | None) -> int:
    return _possible(told) or 0


class PromptDetails(msgspec.Struct, frozen=True, gc=False):
    cached_tokens: int | None = None


class CompletionDetails(msgspec.Struct, frozen=True, gc=False):
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None


class Usage(msgspec.Struct, frozen=True, gc=False):
    completion_tokens: int | None = None
    prompt_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None

    @property
    def generated(self) -> int | None:
        return _possible(self.completion_tokens)

    @property
    def read(self) -> tuple[int, int]:
        """Prompt tokens that were read anew, and that came from a cache."""
        details = self.prompt_tokens_details
        prompt = _counted(self.prompt_tokens)
        reused = min(prompt, _counted(details.cached_tokens)) if details else 0
        return prompt - reused, reused


class Timings(msgspec.Struct, frozen=True, gc=False):
    """llama.cpp's own account of one choice."""

    predicted_n: int | None = None
    draft_n: int | None = None
    draft_n_accepted: int | None = None


class SpeculativeDecoding(msgspec.Struct, frozen=True, gc=False):
    num_draft_tokens: int | None = None
    num_accepted_draft_tokens: int | None = None


class Metrics(msgspec.Struct, frozen=True, gc=False):
    """What vLLM tells of a request, if it was started with ``--per-request-spec-decode-metrics summary``."""

    speculative_decoding: SpeculativeDecoding | None = None


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A whole reply, or in a stream what one event carries."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    metrics: Metrics | None = None
    error: Any = None
    object: str = ""
    message: Any = None  # beside ``object: "error"``, in older servers

    @property
    def drafted(self) -> tuple[int, int]:
        """Drafted tokens that were accepted, and that were rejected, wherever the server tells: OpenAI and others in
        ``usage``, llama.cpp in ``timings``, vLLM in ``metrics``.
        """
        details = self.usage.completion_tokens_details if self.usage else None
        if details is not None and (details.accepted_prediction_tokens or details.rejected_prediction_tokens):
            return _counted(details.accepted_prediction_tokens), _counted(details.rejected_prediction_tokens)
        if self.timings is not None and self.timings.draft_n:
            return _drafted(self.timings.draft_n, self.timings.draft_n_accepted)
        told = self.metrics.speculative_decoding if self.metrics else None
        return _drafted(told.num_draft_tokens, told.num_accepted_draft_tokens) if told is not None else (0, 0)

    @property
    def failed(self) -> bool:
        return bool(self.error) or self.object == "error"


def _drafted(drafted: int | None, accepted: int | None) -> tuple[int, int]:
    return _counted(accepted), max(0, _counted(drafted) - _counted(accepted))


_decoder = msgspec.json.Decoder(Reply)


def decode(data: bytes | bytearray) -> Reply:
    """Raises msgspec.DecodeError (of which ValidationError is a kind) on anything that is not a reply."""
    return _decoder.decode(data)


class EventStream:
    """Cuts a byte stream into the data of its events, wherever it was split on the way."""

    def __init__(self) -> None:
        self._line = bytearray()  # the line that has not ended yet
        self._data: list[bytes] = []
        self._size = 0
        self._return = False  # a CR that ended the last chunk, perhaps the first half of CRLF
        self._first = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """Data of the events that ``chunk`` completes. Raises ValueError on an event of absurd size."""
        if self._return:
            chunk = b"\r" + chunk
            self._return = False
        if b"\r" in chunk:
            if chunk.endswith(b"\r"):
                chunk, self._return = chunk[:-1], True
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._line += chunk
        self._size += len(chunk)
        events: list[bytes] = []
        if b"\n" in chunk:
            *lines, self._line = self._line.split(b"\n")
            for line in lines:
                self._take(bytes(line), events)
        if self._size > EVENT_BYTES:
            raise ValueError(f"an event of more than {EVENT_BYTES >> 20} MiB")
        return events

    def close(self) -> list[bytes]:
        """Data of an event that the end of the stream completes, which servers that forget the last blank line need."""
        return self.feed(b"\n\n")

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
            self._data = []
            self._size = len(self._line)
            return
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
        elif field == b"error":  # llama.cpp, older servers
            self._data.append(b'{"error":%s}' % value.strip())
        else:
            self._size -= len(line)


class Refusal(msgspec.Struct, frozen=True):
    """What an error said: its ``message``, and the request's ``fields`` that it names in so many words."""

    message: str
    fields: tuple[str, ...] = ()
    status: int | None = None


def refusal(body: bytes | object) -> Refusal:
    """From an error body in any of the usual shapes: OpenAI's, FastAPI's, plain text. Never raises."""
    if isinstance(body, bytes):
        text = body.decode("utf-8", "replace")
        try:
            parsed: object = json.loads(text)
        except (ValueError, RecursionError):
            return Refusal(text)
    else:
        text, parsed = "", body
    if isinstance(parsed, dict) and parsed.get("error"):
        parsed = parsed["error"]
    if isinstance(parsed, str):
        return Refusal(parsed)
    if not isinstance(parsed, dict):
        return Refusal(text or str(parsed))
    detail = parsed.get("detail")
    if isinstance(detail, list):  # FastAPI: what is wrong, field by field
        items = [item for item in detail if isinstance(item, dict)]
        paths = [[str(step) for step in item["loc"]] for item in items if isinstance(item.get("loc"), list)]
        said = [f"{'.'.join(path)}: {item.get('msg', '')}" for path, item in zip(paths, items, strict=False)]
        return Refusal("; ".join(said) or text, tuple(path[1] for path in paths if len(path) > 1))
    message = next((m for key in ("message", "detail", "error", "msg") if isinstance(m := parsed.get(key), str)), text)
    field, code = parsed.get("param"), parsed.get("code")
    return Refusal(
        message or str(parsed),
        (field,) if isinstance(field, str) and field else (),
        code if isinstance(code, int) and 400 <= code < 600 else None,
    )
