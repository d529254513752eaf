"""Answers: finding the one that an output states, and knowing when two of them mean the same."""

from fathom.answers.blocks import Blocks, blocks_of, code_block, whole_statements
from fathom.answers.documents import Schema, canonical_json, read_json
from fathom.answers.expressions import looks_mathematical, warm_up
from fathom.answers.extraction import extract
from fathom.answers.meaning import AnswerKind, Canonical, at_once, canonical, needs_algebra, same
from fathom.answers.thought import Thought, thought_of

__all__ = [
    "AnswerKind",
    "Blocks",
    "Canonical",
    "Schema",
    "Thought",
    "at_once",
    "blocks_of",
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
    "whole_statements",
]
