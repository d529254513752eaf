"""The verifier ``json-schema``: whether a candidate's answer is JSON of a given shape.

Schemas are judged by ``fathom.answers.Schema``, within bounds, since a hostile model writes the documents: in a thread
apart, and for no longer than a time limit. References to other documents are not followed: a schema must be whole.
"""

from __future__ import annotations

import asyncio
import json
import string
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from fathom.answers import Schema, code_block, read_json
from fathom.errors import SpecError
from fathom.judges.base import Candidate, EachVerifier, Verdict, require_seconds
from fathom.judges.registry import JUDGES
from fathom.specs import option

__all__ = ["JsonSchema"]

_MAX_TEXT = 200_000
"""Characters of a document: all that reads it as a whole, as ``json`` does, holds up everything else meanwhile."""
_THREADS = ThreadPoolExecutor(2, "fathom-json-schema")
"""Of their own: a check goes on to its time limit when nobody waits for it any more, and must hold up nothing else."""


@JUDGES.register("json-schema", source="json-schema.org")
@dataclass(frozen=True)
class JsonSchema(EachVerifier):
    """Passes JSON that a JSON schema allows.

    Judged is the stated answer where it is JSON, or else the last fenced block, or the text as a whole. A check that
    takes longer than `seconds` gives no verdict.
    """

    name: ClassVar[str] = "json-schema"
    parallel: ClassVar[int] = 4

    schema: str = option(help="the schema, as JSON", harmless=True)
    seconds: float = option(0.5, "time limit of one check")

    def __post_init__(self) -> None:
        require_seconds("json-schema", self.seconds)
        _ = self._schema  # a schema that is none is refused now

    @cached_property
    def _schema(self) -> Schema:
        try:
            return Schema(json.loads(self.schema))
        except SpecError as error:
            raise SpecError(f"json-schema(schema=…): {error}") from None
        except (ValueError, RecursionError) as error:
            raise SpecError(f"json-schema(schema=…) is not JSON: {error}") from None

    async def verdict(self, problem: str, candidate: Candidate) -> Verdict:
        return await asyncio.get_running_loop().run_in_executor(_THREADS, self._check, candidate)

    def _check(self, candidate: Candidate) -> Verdict:
        reason = "no JSON in the answer"
        for text in (candidate.answer, code_block(candidate.text), candidate.text):
            if text is None:
                continue
            if len(text) > _MAX_TEXT:
                return Verdict.of(False, f"more than {_MAX_TEXT} characters")
            try:
                document = read_json(_unfenced(text))
            except ValueError as error:
                reason = f"not JSON: {error}"
                continue
            valid, detail = self._schema.judge(document, self.seconds)
            return Verdict.failed(detail) if valid is None else Verdict.of(valid, detail)
        return Verdict.of(False, reason[:200])


def _unfenced(text: str) -> str:
    """A document without the fences around it."""
    text = text.strip()
    if text.startswith("```"):
        text = text[3:].lstrip(string.ascii_letters + string.digits + "_")
    return text.removesuffix("```")
