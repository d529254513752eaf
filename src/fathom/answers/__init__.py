"""Answers: finding the one that an output states, and knowing when two of them mean the same."""

from fathom.answers.documents import Schema, canonical_json, read_json
from fathom.answers.expressions import looks_mathematical, warm_up
from fathom.answers.extraction import code_block, extract
from fathom.answers.meaning import AnswerKind, Canonical, at_once, canonical, needs_algebra, same
from fathom.answers.thought import Thought, thought_of

__all__ = [
    "AnswerKind",
    "Canonical",
    "Schema",
    "Thought",
    "at_once",
    "canonical",
    "canonical_json",
    "code_block",
    "extract",
    "looks_mathematical",
    "needs_algebra",
    "read_json",
    "same",
    "thought_of",
    "warm_up",
]
