"""What travels: chat completions in OpenAI's form, and Fathom's extension of it, as typed structs.

A request of the wrong shape is refused by the decoder, and so is a field that is not known here: nothing that a client
asks for is dropped silently. Optional fields of replies are left out where they say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fathom.records import Candidate, Receipt, Spent

__all__ = [
    "ChatChunk",
    "ChatCompletion",
    "ChatMessage",
    "ChatRequest",
    "ChunkChoice",
    "Delta",
    "FathomOptions",
    "FunctionCall",
    "Logprobs",
    "ModelCard",
    "ModelList",
    "ReplyChoice",
    "ReplyMessage",
    "Report",
    "ResponseFormat",
    "TokenLogprob",
    "ToolCall",
    "ToolDelta",
    "TopLogprob",
    "Usage",
]

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
AnswerForm = Literal["short", "code", "text"]
MOST = 2**53  # of whole numbers: every one up to it is a float too
Name = Annotated[str, Meta(max_length=256)]
Count = Annotated[int, Meta(ge=1, le=MOST)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]


class Extensible(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A request's struct: what it does not know, it refuses."""


class FathomOptions(Extensible):
    """How much to think, and how: the names of ``fathom.Budget`` and ``fathom.solve``.

    ``within`` is a deadline (``"2s"``, or seconds), ``tokens`` bounds all that is generated, ``width`` the trajectories
    and ``depth`` each of them, ``cost`` US dollars, ``calls`` model calls, ``memory`` bytes (``"2GiB"``). ``verify`` is
    a judge that decides when an answer is right, ``form`` what the answer is.
    """

    strategy: Annotated[str, Meta(max_length=2000)] | None = None
    within: str | float | None = None
    tokens: Count | None = None
    width: Count | None = None
    depth: Annotated[int, Meta(ge=0, le=MOST)] | None = None
    cost: Annotated[float, Meta(gt=0)] | None = None
    calls: Count | None = None
    memory: str | Count | None = None
    verify: Annotated[str, Meta(max_length=2000)] | None = None
    form: AnswerForm | None = None


class Part(Extensible):
    """A piece of a message's content. Only text can be thought about."""

    type: Literal["text", "input_text", "output_text"]
    text: str


class FunctionCall(Extensible):
    name: Name
    arguments: str


class ToolCall(Extensible, omit_defaults=False):
    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class ChatMessage(Extensible):
    """One turn of the chat."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    name: Name | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(Extensible):
    include_usage: bool = False
    include_obfuscation: bool = False


class FunctionDefinition(Extensible):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Extensible):
    function: FunctionDefinition
    type: Literal["function"] = "function"


class NamedFunction(Extensible):
    name: Name


class NamedTool(Extensible):
    function: NamedFunction
    type: Literal["function"] = "function"


class Schema(Extensible, rename={"definition": "schema"}):
    definition: dict[str, Any]
    name: Name = "answer"
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Extensible):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None


class ChatRequest(Extensible):
    """``POST /v1/chat/completions``."""

    model: Name
    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Count | None = None
    stop: str | Annotated[list[str], Meta(max_length=16)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    max_completion_tokens: Count | None = None
    max_tokens: Count | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Effort | None = None
    fathom: FathomOptions | None = None
    # Accepted without effect, since they ask for nothing that the answer depends on.
    user: str | None = None
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    modalities: list[Literal["text"]] | None = None


# -- replies ----------------------------------------------------------------------------------------------------------


class Reply(msgspec.Struct, omit_defaults=True):
    """A reply's struct: what says nothing is left out."""


class CompletionDetails(msgspec.Struct):
    reasoning_tokens: int = 0


class PromptDetails(msgspec.Struct):
    cached_tokens: int = 0


class Usage(msgspec.Struct):
    """Everything that was truly spent: rejected samples, judges and cut work included.

    ``reasoning_tokens`` are those of ``completion_tokens`` that are not in the answer's own text.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails

    @classmethod
    def of(cls, prompt: int, reused: int, generated: int, shown: int) -> Usage:
        """From tokens read anew, tokens taken from a cache, all that were generated, and those in the answer."""
        return cls(
            prompt + reused,
            generated,
            prompt + reused + generated,
            PromptDetails(reused),
            CompletionDetails(max(0, generated - shown)),
        )


class Report(Reply):
    """The receipt of an answer; while a search runs, how it stands."""

    strategy: str | None = None
    stopped: str | None = None
    answer: str | None = None
    confidence: float | None = None
    candidates: tuple[Candidate, ...] = ()
    running: int | None = None
    valid: bool | None = None
    model: str | None = None
    limits: Mapping[str, float] | None = None
    seed: int | None = None
    notes: tuple[str, ...] = ()
    spent: Spent | None = None

    @classmethod
    def of(cls, receipt: Receipt) -> Report:
        return cls(
            strategy=receipt.strategy,
            stopped=receipt.stopped.value,
            answer=receipt.answer,
            confidence=round(receipt.confidence, 4),
            candidates=receipt.candidates,
            valid=receipt.valid,
            model=receipt.model,
            limits=receipt.limits,
            seed=receipt.seed,
            notes=receipt.notes,
            spent=receipt.spent,
        )


class TopLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TopLogprob]


class Logprobs(msgspec.Struct):
    content: list[TokenLogprob] | None
    refusal: None = None


class ReplyMessage(Reply):
    """The assistant's turn; in a stream, what is new of it."""

    role: str
    content: str | None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None


class ReplyChoice(Reply):
    index: int
    message: ReplyMessage
    finish_reason: str
    logprobs: Logprobs | None = None


class ChatCompletion(Reply):
    """The whole reply; ``fathom`` is its receipt."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ReplyChoice]
    usage: Usage
    fathom: Report | None = None


class ToolDelta(Reply):
    index: int
    id: str | None = None
    type: str | None = None
    function: dict[str, str] | None = None


class Delta(Reply):
    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolDelta] | None = None


class ChunkChoice(Reply):
    index: int
    delta: Delta
    finish_reason: str | None
    logprobs: Logprobs | None = None


class ChatChunk(Reply):
    """One event of a streamed reply; ``fathom`` is how the search stands, in the last one its receipt."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    fathom: Report | None = None


class ModelCard(Reply):
    id: str
    object: str
    created: int
    owned_by: str
    fathom: dict[str, Any] | None = None


class ModelList(Reply):
    """``GET /v1/models``."""

    object: str
    data: list[ModelCard]
