"""From chat messages to token ids, with the model's own chat template and without trusting what the messages say.

Control tokens (``<|im_end|>`` and the like) come from the template alone. A message that spells one out is tokenised
as the plain text that it is, so nobody can end a turn or speak as the system from inside a message. To that end the
template is rendered once with placeholders for the messages and cut at its control tokens; what lies between two of
them is tokenised as one text, exactly as llama.cpp itself would.

Chats with tools are rendered by the template as it was written (``chat_template``), with what was said in them, since
a template may look at it; only what spells a control token in it is replaced by a placeholder.
"""

from __future__ import annotations

import functools
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fathom.errors import CapabilityError, EngineError, UsageError
from fathom.language.engines.base import Prompt
from fathom.language.engines.chat_template import template_for_tools, turns

__all__ = ["ChatTokenizer", "Tokens"]

_MAY_BEGIN = re.compile(r"[<\[][^\s>\]]{0,40}$")  # a control token, as they are spelled
_DEEPEST = 64  # objects and lists within each other


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

    @property
    def named_tokens(self) -> Mapping[str, str]:
        """The control tokens that a template calls by name: ``bos_token`` and others."""

    def render(self, template: str, messages: Sequence[tuple[str, str]]) -> str:
        """The chat, as roles and contents, as text up to where the assistant begins. Raises EngineError."""


class ChatTokenizer:
    """Prompts of one model as token ids.

    No default system prompt is added: Qwen's template, for one, would put *You are Qwen …* where the caller gave
    none. What the model is told is what the prompt says. ``template`` is the name of a template that llama.cpp brings
    (``chatml``) or the text of one; None takes that of the file. Chats with tools alone have what the model's makers
    wanted added. Raises EngineError where there is no template.
    """

    def __init__(self, model: Templated, template: str | None = None) -> None:
        self._model = model
        self._template = template or model.template or "chatml"
        self._marks = Marks(model.vocabulary)
        self._frame = functools.lru_cache(maxsize=64)(self._framed)
        self._frame(("user",))  # a template that cannot be used is refused at once
        self._whole = template_for_tools(self._template, **model.named_tokens)

    @property
    def knows_tools(self) -> bool:
        """Whether the model can be told of tools."""
        return self._whole is not None

    def ids(self, prompt: Prompt) -> list[int]:
        """The prompt up to where the assistant goes on: its messages, the opening of its turn, and the given prefix.

        Raises CapabilityError for tools where the template tells of none, UsageError for a chat that it refuses.
        """
        if prompt.tools or any(message.tool_calls or message.tool_call_id for message in prompt.messages):
            parts, said = self._rendered(prompt)
        else:
            roles = tuple("system" if m.role == "developer" else m.role for m in prompt.messages)
            parts, said = self._frame(roles), [message.content for message in prompt.messages]
        ids: list[int] = list(self._model.vocabulary.bos)
        for part in parts:
            if isinstance(part, str):
                ids += self._model.vocabulary.tokenize(self._marks.fill(part, said))
            elif ids != [part]:  # some templates spell out the token that begins every text
                ids.append(part)
        return ids + self._prefix(prompt)

    def _rendered(self, prompt: Prompt) -> tuple[Sequence[int | str], list[str]]:
        """A chat with tools, and what its placeholders stand for."""
        if self._whole is None:
            raise CapabilityError(
                "the chat template of this model knows no tools, or has them called in a way that is not read here; "
                "take a model of Qwen's or Hermes' families, or an openai: model"
            )
        said: list[str] = []
        tools = () if prompt.tools is None else prompt.tools.functions
        chat, told = (self._marks.guarded(each, said) for each in (turns(prompt.messages), tools))
        return self._marks.cut(self._whole.render(chat, told)), said

    def _framed(self, roles: tuple[str, ...]) -> Sequence[int | str]:
        """The template's own part of a chat of plain turns, with placeholders for what is said in them."""
        marks = [self._marks.mark(i) for i in range(len(roles))]
        return self._marks.cut(self._model.render(self._template, list(zip(roles, marks, strict=True))))

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


class Marks:
    """Placeholders for what was said, which no one can spell, and texts in which they stand."""

    def __init__(self, vocabulary: Tokens) -> None:
        self._vocabulary = vocabulary
        self._key = secrets.token_hex(8)
        self._marks = re.compile(f"@{self._key}[.]([0-9]+)@")

    def mark(self, index: int) -> str:
        """The placeholder for text ``index``."""
        return f"@{self._key}.{index}@"

    def fill(self, text: str, said: Sequence[str]) -> str:
        """The text with what its placeholders stand for."""
        return self._marks.sub(lambda found: said[int(found[1])], text)

    def guarded(self, value: Any, said: list[str], deepest: int = _DEEPEST) -> Any:
        """JSON-like ``value`` whose strings spell no control token, nor begin one at their end: what does is put into
        ``said``, behind a placeholder. Raises UsageError for one that is nested too deeply.
        """
        if not deepest:
            raise UsageError("the tools, or the arguments of a call, are nested too deeply")
        match value:
            case str():
                return self._guarded(value, said)
            case Mapping():
                pairs = ((self._guarded(key, said), each) for key, each in value.items())
                return {key: self.guarded(each, said, deepest - 1) for key, each in pairs}
            case list() | tuple():
                return [self.guarded(each, said, deepest - 1) for each in value]
        return value

    def _guarded(self, text: str, said: list[str]) -> str:
        whole: list[str] = []
        for token, before in self._controls(text):
            whole.append(before)
            if token is not None:
                whole.append(self.mark(len(said)))
                said.append(self._vocabulary.control(token) or "")
        if _MAY_BEGIN.search(text):
            whole.append(self.mark(len(said)))
            said.append("")
        return "".join(whole)

    def cut(self, rendered: str) -> tuple[int | str, ...]:
        """The control tokens of a rendered chat, and the text between two of them, placeholders included."""
        parts: list[int | str] = []
        text = ""
        at = 0
        for found in [*self._marks.finditer(rendered), None]:
            literal = rendered[at : found.start() if found else None]
            for token, before in self._controls(literal):
                text += before
                if token is not None:
                    parts += [text, token] if text else [token]
                    text = ""
            if found:
                text += found[0]
                at = found.end()
        return (*parts, text) if text else tuple(parts)

    def _controls(self, literal: str) -> list[tuple[int | None, str]]:
        """``literal`` as pairs of a control token and the text before it; the last has no token."""
        found: list[tuple[int | None, str]] = []
        for token in self._vocabulary.tokenize(literal, special=True):
            spelled = self._vocabulary.control(token)
            if spelled is not None and spelled in literal:
                before, _, literal = literal.partition(spelled)
                found.append((token, before))
        return [*found, (None, literal)]
