"""Judges: what an answer means, how votes are counted, when to stop, verifiers, scorers. Importing it registers all."""

from fathom.judges import (
    agreement,
    arithmetic,
    exact,
    function,
    json_schema,
    llm,
    logprob,
    prm,
    regex,
    self_certainty,
    unit_tests,
)

__all__ = [
    "agreement",
    "arithmetic",
    "exact",
    "function",
    "json_schema",
    "llm",
    "logprob",
    "prm",
    "regex",
    "self_certainty",
    "unit_tests",
]
