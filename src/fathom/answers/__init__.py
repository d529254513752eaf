"""Answers: finding the one that an output states, and knowing when two of them mean the same."""

from fathom.answers.documents import Schema, canonical_json
from fathom.answers.expressions import looks_mathematical, warm_up
from fathom.answers.extraction import code_block, extract
from fathom.answers.meaning import AnswerKind, Canonical, canonical, same

__all__ = [
    "AnswerKind",
    "Canonical",
    "Schema",
    "canonical",
    "canonical_json",
    "code_block",
    "extract",
    "looks_mathematical",
    "same",
    "warm_up",
]
