"""The verifier ``json-schema``: whether a candidate's answer is JSON of a given shape.

Schemas are judged by the package ``jsonschema``, which knows all drafts of the standard; msgspec, which Fathom has
anyway, reads typed data but no schemas. References to other documents are not followed: a schema must be whole.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from fathom.answers import code_block
from fathom.errors import SpecError
from fathom.judges.base import Candidate, EachVerifier, Verdict
from fathom.judges.registry import JUDGES
from fathom.specs import option

__all__ = ["JsonSchema"]

_MAX_TEXT = 1_000_000


@JUDGES.register("json-schema", source="json-schema.org")
@dataclass(frozen=True)
class JsonSchema(EachVerifier):
    """Passes JSON that a JSON schema allows.

    Judged is the stated answer where it is JSON, or else the last fenced block, or the text as a whole.
    """

    name: ClassVar[str] = "json-schema"

    schema: str = option(help="the schema, as JSON")

    def __post_init__(self) -> None:
        _ = self._validator  # a schema that is none is refused now

    @cached_property
    def _validator(self) -> Any:
        import jsonschema
        import referencing

        try:
            schema = json.loads(self.schema)
        except (ValueError, RecursionError) as error:
            raise SpecError(f"json-schema(schema=…) is not JSON: {error}") from None
        try:
            kind = jsonschema.validators.validator_for(schema)
            kind.check_schema(schema)
        except jsonschema.SchemaError as error:
            raise SpecError(f"json-schema(schema=…) is not a JSON schema: {error.message:.200}") from None
        registry: referencing.Registry[Any] = referencing.Registry()  # knows no way to the network
        return kind(schema, registry=registry)

    async def verdict(self, problem: str, candidate: Candidate) -> Verdict:
        document, reason = _document(candidate)
        if reason:
            return Verdict.of(False, reason)
        error = next(iter(self._validator.iter_errors(document)), None)
        if error is None:
            return Verdict.of(True, "valid")
        where = "/".join(map(str, error.absolute_path)) or "the root"
        return Verdict.of(False, f"at {where}: {error.message:.200}")


def _document(candidate: Candidate) -> tuple[Any, str]:
    """The JSON that a candidate holds, and why there is none."""
    places = (candidate.answer, code_block(candidate.text), candidate.text)
    reason = "no JSON in the answer"
    for text in places:
        if text is None:
            continue
        if len(text) > _MAX_TEXT:
            return None, f"more than {_MAX_TEXT} characters"
        try:
            return json.loads(re.sub(r"^```\w*\s*|\s*```$", "", text.strip()), parse_constant=_refuse), ""
        except (ValueError, RecursionError) as error:
            reason = f"not JSON: {error}"
    return None, reason[:200]


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON value")
