"""What is said and what comes back: problems, trajectories, candidates, receipts, results. All are plain values.

A *problem* is what was asked. A *trajectory* is one line of thought of a model on it, immutable: growing it makes a
new one with the same id. A *candidate* is an answer as the receipt lists it. The *receipt* is the account of a run:
what was spent, on what, and why it ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fathom.errors import UsageError

__all__ = [
    "Candidate",
    "Message",
    "Problem",
    "Receipt",
    "Result",
    "Spent",
    "StopReason",
    "ToolCall",
    "Tools",
    "Trajectory",
    "Update",
]


class StopReason(StrEnum):
    """Why a run ended."""

    DECIDED = "decided"  # no likely outcome of the remaining budget could change the answer
    VERIFIED = "verified"
    CONVERGED = "converged"
    EXHAUSTED = "exhausted"  # the strategy ran to its end
    DEADLINE = "deadline"
    TOKENS = "tokens"
    COST = "cost"
    MEMORY = "memory"
    CALLS = "calls"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that a model asks to have called. ``arguments`` is the JSON that it wrote, valid or not."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Tools:
    """The functions that a model may ask to have called, in OpenAI's form.

    ``functions`` are each like ``{"type": "function", "function": {"name": …, "parameters": …}}``. ``choice`` is
    ``auto``, ``none``, ``required``, or names the one function to call; ``parallel`` says whether there may be several
    calls at once. None leaves either to the model.
    """

    functions: tuple[Mapping[str, Any], ...]
    choice: str | Mapping[str, Any] | None = None
    parallel: bool | None = None

    @property
    def names(self) -> frozenset[str]:
        return frozenset(tool["function"]["name"] for tool in self.functions)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat. ``role`` is ``system``, ``user``, ``assistant`` or ``tool``.

    ``name`` tells speakers of one role apart. ``tool_calls`` are what the assistant asked for in its turn, and
    ``tool_call_id`` is the call that a turn of the role ``tool`` gives the result of.
    """

    role: str
    content: str
    name: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """What was asked: chat messages, or for a recursive model the puzzle as the text of the only message.

    With ``tools`` the answer may be calls of them instead of words.
    """

    messages: tuple[Message, ...]
    tools: Tools | None = None

    @classmethod
    def of(cls, prompt: str | Problem | Iterable[Message | Mapping[str, Any]], tools: Tools | None = None) -> Problem:
        """From a string, or from chat messages in the OpenAI form. Raises UsageError on anything else."""
        if isinstance(prompt, Problem):
            return prompt
        if isinstance(prompt, str):
            if not prompt.strip():
                raise UsageError("the prompt is empty")
            return cls((Message("user", prompt),), tools)
        messages = tuple(_message(item) for item in prompt)
        last = messages[-1] if messages else Message("", "")
        if last.role != "tool" and (last.role != "user" or not last.content.strip()):
            raise UsageError("the messages must end with a user message that is not empty, or with a tool's result")
        return cls(messages, tools)

    @property
    def text(self) -> str:
        """The last user message: the question itself."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), self.messages[-1].content)


def _message(item: Message | Mapping[str, Any]) -> Message:
    if isinstance(item, Message):
        return item
    content = item.get("content") if isinstance(item, Mapping) else None
    if content is None and isinstance(item, Mapping) and item.get("tool_calls"):
        content = ""
    if not isinstance(content, str):
        raise UsageError(f"a message is a mapping with 'role' and a string 'content', not {item!r:.80}")
    if item.get("role") not in ("system", "developer", "user", "assistant", "tool"):
        raise UsageError(f"a message's role is system, user, assistant or tool, not {item.get('role')!r}")
    try:
        calls = tuple(
            ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
            for call in item.get("tool_calls") or ()
        )
    except (KeyError, TypeError):
        raise UsageError(f"a tool call has an id and a function with name and arguments: {item!r:.80}") from None
    return Message(item["role"], content, item.get("name") or "", calls, item.get("tool_call_id") or "")


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One line of thought.

    ``depth`` counts the units spent on it (tokens of a language model, supervision steps of a recursive one).
    ``text`` is what it has so far: the reasoning, or the decoded board. ``answer`` is None until it was concluded.
    ``finished`` tells that it came to its own end (the model ended its turn, or halted); one that was cut is not
    finished even when it was concluded afterwards. ``reason`` says how it ended (``stop``, ``length``, ``cut``,
    ``halted``, ``converged``, ``looped``, ``verified``, ``failed``). ``logprobs`` has one natural-log probability per
    generated token where the engine gives them, ``top_logprobs`` those of the likeliest tokens at each, highest first.
    ``spelled`` are the bytes of each of these tokens, ``likeliest`` the texts of those at each. ``tool_calls`` are the
    functions that it wants called, which then are its answer.
    ``value`` is the model's own estimate that it will be right (a value head), where it has one; ``valid`` says whether
    the answer *is* right, where the reasoner knows for certain (a puzzle's constraints). ``key`` is what the answer
    means: trajectories with equal keys gave the same answer; ``parsed`` is False for an answer whose meaning could not
    be made out, or that is known to be wrong. ``state`` belongs to the reasoner alone.
    """

    id: int
    parent: int | None = None
    depth: int = 0
    text: str = ""
    answer: str | None = None
    key: str = ""
    parsed: bool = True
    finished: bool = False
    reason: str = ""
    logprobs: tuple[float, ...] = ()
    top_logprobs: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    spelled: tuple[bytes, ...] = field(default=(), repr=False)
    likeliest: tuple[tuple[str, ...], ...] = field(default=(), repr=False)
    tool_calls: tuple[ToolCall, ...] = ()
    value: float | None = None
    valid: bool | None = None
    error: str | None = None
    state: Any = field(default=None, repr=False, compare=False)

    @property
    def mean_logprob(self) -> float | None:
        """Mean log-probability per token, or None without log-probabilities."""
        return sum(self.logprobs) / len(self.logprobs) if self.logprobs else None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A distinct answer as the receipt lists it: its votes, its score, whether any trajectory behind it finished."""

    answer: str
    votes: float
    score: float | None = None
    finished: bool = True


@dataclass(frozen=True, slots=True)
class Spent:
    """Everything that was spent, cancelled and rejected work included.

    ``tokens`` counts generated tokens of all roles; ``prompt_tokens`` those read, ``reused_tokens`` those taken from
    a cache instead. ``estimated_tokens`` of the generated ones were counted by what was seen, because the engine was
    cut before it told. ``accepted_draft_tokens`` of the generated ones had been drafted by speculation;
    ``rejected_draft_tokens`` were drafted in vain. ``width`` is the number of trajectories and ``depth`` that of the
    deepest one; ``memory_bytes`` is the peak held by trajectories; ``flops`` an estimate; ``cost`` is in dollars, None
    where a price is unknown.
    """

    seconds: float = 0.0
    tokens: int = 0
    tokens_by_role: Mapping[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    reused_tokens: int = 0
    estimated_tokens: int = 0
    accepted_draft_tokens: int = 0
    rejected_draft_tokens: int = 0
    calls: int = 0
    width: int = 0
    depth: int = 0
    memory_bytes: int = 0
    flops: float = 0.0
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The account of one run. ``notes`` tell what a person should know: a tie, lost samples, a judge that failed."""

    answer: str
    confidence: float
    stopped: StopReason
    strategy: str
    model: str
    candidates: tuple[Candidate, ...]
    spent: Spent
    limits: Mapping[str, float]
    seed: int
    notes: tuple[str, ...] = ()
    valid: bool | None = None  # what a verifier said of the answer, where there is one


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of ``fathom.solve``. ``best`` is the trajectory that the answer came from, ``text`` its output."""

    answer: str
    confidence: float
    receipt: Receipt
    text: str = ""
    trajectories: Sequence[Trajectory] = ()
    best: Trajectory | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """A better standing while a run goes on: the best answer so far, how sure, and the tally behind it."""

    answer: str | None
    confidence: float
    candidates: tuple[Candidate, ...]
    spent: Spent
    running: int = 0
    final: Result | None = None
