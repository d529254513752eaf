"""What a model is called by, taken apart: a name of the catalogue or ``KIND:PLACE``, with options in parentheses.

``embedded(temperature=0.4)``, ``qwen2.5-coder-1.5b(draft=auto)``, ``openai:qwen3@http://host:8000/v1(top_p=0.9)``: the
options are those of ``fathom.open``, written as a strategy's are, so that they can be said wherever a model is named:
on the command line, in an ensemble, a ladder, a judge, a sweep, the gateway's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fathom.errors import SpecError
from fathom.language.catalogue import CATALOGUE, DEFAULT_MODEL
from fathom.specs import Spec, parse_spec

__all__ = ["ModelURI", "split_uris"]


@dataclass(frozen=True)
class ModelURI:
    """``kind`` is empty for a model of the catalogue, whose name is its ``place``. ``str`` writes it so that it parses
    to the same again."""

    kind: str
    place: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> ModelURI:
        """Take a URI apart. Whether there is such a kind and such a model is not looked at.

        Raises SpecError where what stands in parentheses after a name of the catalogue makes no options. The places of
        other kinds may be paths with parentheses of their own.
        """
        text, options = _with_options(text.strip())
        if text in ("", "embedded"):
            text = DEFAULT_MODEL
        kind, colon, place = text.partition(":")
        return cls(kind, place, options) if colon and text not in CATALOGUE else cls("", text, options)

    def __str__(self) -> str:
        return str(Spec(f"{self.kind}:{self.place}" if self.kind else self.place, self.options))


def split_uris(text: str) -> tuple[str, ...]:
    """URIs that are separated by commas; those within brackets belong to their options."""
    found, depth = [""], 0
    for mark in text:
        depth += (mark in "([") - (mark in ")]")
        if mark == "," and depth <= 0:
            found.append("")
        else:
            found[-1] += mark
    return tuple(one.strip() for one in found)


def _with_options(text: str) -> tuple[str, Mapping[str, Any]]:
    """The URI without its options, and these."""
    if not text.endswith(")"):
        return text, {}
    at = text.find("(")
    while at > 0:
        name = text[:at].rstrip()
        simple = name == "embedded" or name in CATALOGUE
        try:
            return name, parse_spec((name if simple else "model") + text[at:]).options
        except SpecError:
            if simple:
                raise
        at = text.find("(", at + 1)
    return text, {}
