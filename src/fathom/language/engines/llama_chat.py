"""From chat messages to token ids, with the model's own chat template and without trusting what the messages say.

Control tokens (``<|im_end|>`` and the like) come from the template alone. A message that spells one out is tokenised
as the plain text that it is, so nobody can end a turn or speak as the system from inside a message. To that end the
template is rendered once with placeholders for the messages and cut at its control tokens; what lies between two of
them is tokenised as one text, exactly as llama.cpp itself would.
"""

from __future__ import annotations

import functools
import re
import secrets
from collections.abc import Sequence
from typing import Protocol

from fathom.errors import CapabilityError, EngineError
from fathom.language.engines.base import Prompt

__all__ = ["ChatTokenizer", "Tokens"]


class Tokens(Protocol):
    """The tokens of a model."""

    @property
    def size(self) -> int: ...

    @property
    def bos(self) -> Sequence[int]:
        """What begins every text."""

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of ``text``; control tokens that it spells out are read as such only when ``special``."""

    def control(self, token: int) -> str | None:
        """The text of a control token; None for every other."""


class Templated(Protocol):
    """A model with a chat template."""

    @property
    def vocabulary(self) -> Tokens: ...

    @property
    def template(self) -> str | None: ...

    def render(self, template: str, messages: Sequence[tuple[str, str]]) -> str:
        """The chat, as roles and contents, as text up to where the assistant begins. Raises EngineError."""


class ChatTokenizer:
    """Prompts of one model as token ids.

    No default system prompt is added: Qwen's template, for one, would put *You are Qwen …* where the caller gave
    none. What the model is told is what the prompt says. ``template`` is the name of a template that llama.cpp brings
    (``chatml``) or the text of one; None takes that of the file. Raises EngineError where there is none.
    """

    def __init__(self, model: Templated, template: str | None = None) -> None:
        self._model = model
        self._template = template or model.template or "chatml"
        self._mark = secrets.token_hex(8)
        self._frame = functools.lru_cache(maxsize=64)(self._cut_frame)
        self._frame(("user",))  # a template that cannot be used is refused at once

    def ids(self, prompt: Prompt) -> list[int]:
        """The prompt up to where the assistant goes on: its messages, the opening of its turn, and the given prefix.

        Raises CapabilityError for tools: llama.cpp's C interface renders chats of plain turns alone.
        """
        if prompt.tools or any(message.tool_calls or message.tool_call_id for message in prompt.messages):
            raise CapabilityError("this engine knows no tools; use an openai: model, or FATHOM_LLAMA=server")
        roles = tuple("system" if m.role == "developer" else m.role for m in prompt.messages)
        ids: list[int] = list(self._model.vocabulary.bos)
        for part in self._frame(roles):
            if isinstance(part, int):
                if ids != [part]:  # some templates spell out the token that begins every text
                    ids.append(part)
            else:
                text = "".join(t if isinstance(t, str) else prompt.messages[t[0]].content for t in part)
                ids += self._model.vocabulary.tokenize(text)
        return ids + self._prefix(prompt)

    def _prefix(self, prompt: Prompt) -> list[int]:
        ids: list[int] = []
        text = ""
        for span in prompt.prefix:
            if span.tokens:
                ids += self._model.vocabulary.tokenize(text)
                ids += span.tokens
                text = ""
            else:
                text += span.text
        for token in ids:
            if not 0 <= token < self._model.vocabulary.size:
                raise EngineError(f"token {token} of the prompt's prefix is not in the vocabulary of this model")
        return ids + self._model.vocabulary.tokenize(text)

    def _cut_frame(self, roles: tuple[str, ...]) -> tuple[int | tuple[str | tuple[int], ...], ...]:
        """The template's own part: control tokens, and between them literal text and ``(i,)`` for message i."""
        marks = [f"@{self._mark}.{i}@" for i in range(len(roles))]
        rendered = self._model.render(self._template, list(zip(roles, marks, strict=True)))
        parts: list[int | tuple[str | tuple[int], ...]] = []
        text: list[str | tuple[int]] = []
        for piece in re.split(f"(@{self._mark}[.][0-9]+@)", rendered):
            if piece in marks:
                text.append((marks.index(piece),))
                continue
            for token, literal in self._controls(piece):
                if literal:
                    text.append(literal)
                if token is not None:
                    parts += [tuple(text), token] if text else [token]
                    text = []
        return (*parts, tuple(text)) if text else tuple(parts)

    def _controls(self, literal: str) -> list[tuple[int | None, str]]:
        """``literal`` as pairs of a control token and the text before it; the last has no token."""
        found: list[tuple[int | None, str]] = []
        for token in self._model.vocabulary.tokenize(literal, special=True):
            spelled = self._model.vocabulary.control(token)
            if spelled is not None and spelled in literal:
                before, _, literal = literal.partition(spelled)
                found.append((token, before))
        return [*found, (None, literal)]
