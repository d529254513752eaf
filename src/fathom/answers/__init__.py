"""Answers: finding the one that an output states, and knowing when two of them mean the same."""

from fathom.answers.extraction import code_block, extract
from fathom.answers.meaning import AnswerKind, Canonical, canonical, same, warm_up

__all__ = ["AnswerKind", "Canonical", "canonical", "code_block", "extract", "same", "warm_up"]
