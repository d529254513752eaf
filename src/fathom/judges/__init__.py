"""Judges: what an answer means, how votes are counted, when to stop, and verifiers. Importing it registers them all."""

from fathom.judges import arithmetic, exact, function, json_schema, regex, unit_tests

__all__ = ["arithmetic", "exact", "function", "json_schema", "regex", "unit_tests"]
