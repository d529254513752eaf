"""The one small interface behind which every language model runs.

An engine continues one prompt n times. What it produces arrives as *pieces*: a piece belongs to one of the n choices
and carries the text, the tokens and the log-probabilities that are new since the piece before. Engines that stream
send many pieces, those that do not send one; the reader need not know which. Leaving the generation's ``async with``
block, by whatever way, cancels everything that still runs, upstream requests included.

Tokens are counted by the engine itself. Where a request was cut before the engine told its count, the pieces count what
was seen, and say so by ``estimated``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, Self

from fathom.costs import at_width
from fathom.errors import EngineError, UsageError
from fathom.records import Message, Tools

__all__ = [
    "CallPart",
    "Engine",
    "EngineCapability",
    "EngineTraits",
    "Finish",
    "Generation",
    "Pace",
    "Piece",
    "Price",
    "Prompt",
    "Request",
    "Sampling",
    "Span",
]


class EngineCapability(StrEnum):
    """What an engine can do beyond continuing a chat prompt."""

    LOGPROBS = "logprobs"  # log-probabilities of the sampled tokens
    PREFIX = "prefix"  # continues a given beginning of the assistant's turn
    TOKENS = "tokens"  # takes and gives token ids, so that a continuation is exact
    MANY = "many"  # continues one prompt n times in one request, reading it once
    SCHEMA = "schema"  # constrains the output to a JSON schema
    SEED = "seed"  # the same seed gives the same text (to the extent that its docstring states)
    TOOLS = "tools"  # is told of functions, and asks to have them called
    BIAS = "bias"  # draws tokens with biases of their own


class Finish(StrEnum):
    """Why a choice ended."""

    STOP = "stop"  # the model ended its turn, or a stop string was met
    LENGTH = "length"  # max_tokens, or the context is full
    CANCELLED = "cancelled"
    FAILED = "failed"


CHARACTERS = 4
"""Of a token, roughly, where nobody counted."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of text; ``tokens`` are its ids where an engine gave them (empty: to be tokenised)."""

    text: str
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """Chat messages, and the beginning of the assistant's turn that is to be continued (``prefix``, may be empty).

    ``tools`` are functions that the model may ask to have called.
    """

    messages: tuple[Message, ...]
    prefix: tuple[Span, ...] = ()
    tools: Tools | None = None

    @property
    def prefix_text(self) -> str:
        return "".join(span.text for span in self.prefix)

    @property
    def guessed_tokens(self) -> int:
        """About how many tokens it has, where nobody counts them: a quarter of its bytes."""
        texts = (*(message.content for message in self.messages), self.prefix_text)
        return -(-sum(len(text) if text.isascii() else len(text.encode()) for text in texts) // CHARACTERS)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. None leaves the choice to the engine; ``extra`` is passed to a server as it is."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    top_logprobs: int = 0
    schema: Mapping[str, Any] | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # added to the logits of these tokens
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bounds = (("temperature", 0.0, 100.0), ("top_p", 0.0, 1.0), ("min_p", 0.0, 1.0))
        for name, low, high in bounds:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # false for NaN too
                raise UsageError(f"{name} must lie between {low:g} and {high:g}, not {value!r}")
        if self.top_k is not None and self.top_k < 0:
            raise UsageError(f"top_k must be 0 (off) or more, not {self.top_k!r}")


@dataclass(frozen=True, slots=True)
class Request:
    """Continue ``prompt`` n times, each by at most ``max_tokens`` tokens. Choice i draws with seed ``seed + i``.

    ``deadline`` is a time on the clock of ``time.monotonic``. It tells an engine what is not worth beginning, such as a
    retry after it, and a remote engine gives up what a server still owes by then.
    """

    prompt: Prompt
    n: int = 1
    max_tokens: int = 256
    sampling: Sampling = Sampling()
    seed: int | None = None
    stream: bool = True  # False allows an engine to send each choice whole: cheaper, but a cut choice is lost
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class CallPart:
    """What is new of tool call ``index`` of a choice: where it begins its id and name, and more of its arguments."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Piece:
    """What is new of choice ``index``.

    ``tokens`` counts the new ones; a last piece may correct what the pieces before it counted, even downwards, so that
    the sum is what the engine charged. ``token_ids`` are ids that spell the new text, where an engine gives them.
    ``logprobs`` has one natural-log probability per new token where asked for. ``top_logprobs`` has, per new token, the
    most likely tokens with theirs, and ``spelled`` its own bytes. ``calls`` are the functions that the model asks to
    have called. ``reasoning`` is text of a separate reasoning channel (``<think>`` sections that a
    server splits off). ``prompt_tokens`` counts what was read anew of the prompt for this choice and ``reused_tokens``
    what was taken from a cache; both come once per choice at most. ``accepted_draft_tokens`` of the new tokens were
    drafted by speculation, and ``rejected_draft_tokens`` were drafted in vain. The last piece of a choice has
    ``finish``, with ``error`` where that is ``failed``; its ``estimated`` speaks of the whole choice. It has
    ``stopped_by``, the stop string that was met, where the engine tells that apart from the model's own end (``""``);
    None where it cannot tell. ``lost`` ends a second attempt at the choice that another one overtook, of which it has
    nothing but what that cost.
    """

    index: int
    text: str = ""
    tokens: int = 0
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    top_logprobs: tuple[tuple[tuple[str, float], ...], ...] = ()
    spelled: tuple[bytes, ...] = ()
    calls: tuple[CallPart, ...] = ()
    reasoning: str = ""
    prompt_tokens: int = 0
    reused_tokens: int = 0
    accepted_draft_tokens: int = 0
    rejected_draft_tokens: int = 0
    estimated: bool = False
    finish: Finish | None = None
    stopped_by: str | None = None
    error: EngineError | None = None
    lost: bool = False


class Generation(Protocol):
    """A running request: ``async with engine.generate(request) as generation: async for piece in generation: …``

    Exactly one piece with ``finish`` comes for every choice that is read to its end. A choice that fails comes to its
    end with ``Finish.FAILED`` and its error and costs nothing but itself.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    def __aiter__(self) -> AsyncIterator[Piece]: ...

    def cancel(self, index: int) -> None:
        """End choice ``index`` now; its last piece (``Finish.CANCELLED``) follows at once. The others go on."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens, read (``prompt``) and generated (``completion``)."""

    prompt: float = 0.0
    completion: float = 0.0

    def cost(self, prompt_tokens: int, tokens: int) -> float:
        """In dollars."""
        return (self.prompt * prompt_tokens + self.completion * tokens) / 1e6


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast an engine runs on this machine, measured.

    ``read_seconds`` is the time to read one prompt token; ``step_seconds[w]`` the time of one step in which w sequences
    advance by one token each (widths ascending; between two measured widths it is interpolated).
    """

    read_seconds: float
    step_seconds: Mapping[int, float]

    def step(self, width: int) -> float:
        """Seconds of one step at ``width``, interpolated linearly, extrapolated in proportion."""
        return at_width(self.step_seconds, width)


@dataclass(frozen=True, slots=True)
class EngineTraits:
    """What is fixed about an engine and its model.

    ``room`` is the number of sequences that run well together; None where the server decides. ``parameters`` counts the
    model's weights (0 where unknown) and gives the FLOPs estimate, 2 per parameter and token.
    """

    model: str
    context_length: int | None = None
    capabilities: frozenset[EngineCapability] = frozenset()
    max_width: int | None = None
    room: int | None = None
    parameters: int = 0
    bytes_per_token: int = 0  # of the cache that a sequence holds
    price: Price | None = None
    version: str = ""


class Engine(Protocol):
    """A language model that can be run."""

    @property
    def traits(self) -> EngineTraits: ...

    def generate(self, request: Request) -> Generation: ...

    async def count(self, prompt: Prompt) -> int | None:
        """Tokens of the prompt by the engine's own tokeniser, or None where it cannot tell without a call."""

    async def pace(self) -> Pace | None:
        """The measured speed, from the kept measurement or by a short one at first use; None for remote servers."""

    async def warm(self, prompt: Prompt) -> None:
        """Read a prompt ahead, so that prompts that begin with it start sooner. May do nothing."""

    async def aclose(self) -> None:
        """Free everything. Idempotent."""
