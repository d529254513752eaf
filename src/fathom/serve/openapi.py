"""The OpenAPI document, made from the structs that requests are checked by, so that it cannot differ from them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

import fathom
from fathom.serve.refusal import ErrorReply
from fathom.serve.responses_wire import ResponsesRequest
from fathom.serve.wire import ChatCompletion, ChatRequest, ModelList

__all__ = ["document"]

_REF = "#/components/schemas/{name}"


@lru_cache(maxsize=1)
def document() -> bytes:
    """As JSON."""
    kinds = (ChatRequest, ResponsesRequest, ChatCompletion, ModelList, ErrorReply)
    _, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    paths = {
        "/v1/chat/completions": {"post": _operation("Answer a chat", ChatRequest, ChatCompletion, streams=True)},
        "/v1/responses": {"post": _operation("Answer, in the newer form", ResponsesRequest, None, streams=True)},
        "/v1/models": {"get": _operation("The models that are served", None, ModelList)},
        "/healthz": {"get": _plain("Whether the process lives")},
        "/readyz": {"get": _plain("Whether it takes requests")},
        "/metrics": {"get": _plain("Counts for Prometheus", "text/plain")},
    }
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "Fathom", "version": fathom.__version__, "description": (__doc__ or "").strip()},
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
            "security": [{}, {"key": []}],
        }
    )


def _content(kind: type, media: str = "application/json") -> dict[str, Any]:
    return {media: {"schema": {"$ref": _REF.format(name=kind.__name__)}}}


def _operation(summary: str, takes: type | None, gives: type | None, *, streams: bool = False) -> dict[str, Any]:
    content = _content(gives) if gives is not None else {"application/json": {"schema": {"type": "object"}}}
    if streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "200": {"description": "The answer", "content": content},
            "default": {"description": "Why there is none", "content": _content(ErrorReply)},
        },
    }
    if takes is not None:
        operation["requestBody"] = {"required": True, "content": _content(takes)}
    return operation


def _plain(summary: str, media: str = "application/json") -> dict[str, Any]:
    answer = {"description": "It does", "content": {media: {}}}
    error = {"description": "It does not", "content": _content(ErrorReply)}
    return {"summary": summary, "responses": {"200": answer, "default": error}}
