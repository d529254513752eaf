"""Answers with a structure of their own: JSON of a given shape, and calls of tools.

Both vote by what they mean, as numbers do: a document by its canonical form, calls by the names of the functions and
the canonical forms of their arguments, in order. Where a model may call tools, to call and to answer in words are
different answers; its words are compared with each other by the answer that they state where the form of the answer has
one, and where the whole text is the answer, all samples that answer in words agree in that, and the first of them
speaks. What is not valid (no JSON, not of the shape, a function that was not offered) never outvotes what is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fathom.answers import Schema, canonical_json
from fathom.language.prompts import FORMS, AnswerForm, Form, visible
from fathom.records import ToolCall, Tools

__all__ = ["form_of", "read_calls"]


def form_of(form: AnswerForm, schema: Mapping[str, Any] | None, tools: Tools | None) -> Form:
    """What counts as the answer. Raises SpecError for a schema that is none."""
    if schema is not None:
        return _Document(**_BARE, schema=Schema.of(schema))
    if tools is not None and form is AnswerForm.TEXT:
        return _Words(**_BARE)
    return FORMS[form]


def read_calls(calls: Sequence[ToolCall], tools: Tools | None) -> tuple[str, str, bool]:
    """The calls as an answer to show, what votes for it are counted by, and whether they can be made."""
    offered = tools.names if tools is not None else frozenset()
    shown, keys, valid = [], [], True
    for call in calls:
        arguments = call.arguments.strip() or "{}"  # which many servers leave out
        canonical = canonical_json(arguments)
        valid = valid and call.name in offered and canonical is not None and canonical.startswith("{")
        shown.append(f"{call.name}({arguments})")
        keys.append(f"{call.name}({arguments if canonical is None else canonical})")
    return "\n".join(shown), "\n".join(("calls", *keys)), valid


@dataclass(frozen=True)
class _Document(Form):
    """The answer is JSON that the schema allows."""

    schema: Schema | None = None

    def extract(self, text: str) -> str | None:
        return visible(text) or None

    def meaning(self, answer: str) -> tuple[str, bool]:
        canonical = canonical_json(answer)
        if canonical is None:
            return super().meaning(answer)[0], False
        return canonical, self.schema is None or self.schema.allows(answer)


class _Words(Form):
    """All of the text, beside calls of tools."""

    def extract(self, text: str) -> str | None:
        return visible(text) or None

    def meaning(self, answer: str) -> tuple[str, bool]:
        return "words", True


_BARE: Mapping[str, Any] = {"think": "", "answer": "", "cue": "", "bare_cue": "", "request": "", "tokens": 0}
