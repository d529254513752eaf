"""How the gateway says no: every error as OpenAI's clients expect it, with a status, a type, a code and a parameter.

The clients try again by themselves after 408, 409, 429 and 5xx; ``x-should-retry`` tells them where that is pointless.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fathom.errors import (
    CapabilityError,
    FathomError,
    LimitError,
    NoAnswer,
    PromptTooLong,
    SpecError,
    UnknownModel,
    UpstreamError,
    UsageError,
)

__all__ = ["ErrorBody", "ErrorReply", "Refused", "refused"]

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class ErrorBody(msgspec.Struct):
    """What went wrong, in OpenAI's words."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorReply(msgspec.Struct):
    """The body of every reply that is no success."""

    error: ErrorBody


class Refused(FathomError):
    """A request that gets an error for an answer: ``status``, and what the error's body says."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        again: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.again = again

    @property
    def body(self) -> ErrorReply:
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return ErrorReply(ErrorBody(str(self), kind, self.param, self.code))

    @property
    def headers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        if self.retry_after is not None:
            found["Retry-After"] = str(max(1, -int(-self.retry_after // 1)))
        if self.again is not None:
            found["x-should-retry"] = "true" if self.again else "false"
        return found


def refused(error: Exception, masks: Mapping[str, str] | None = None) -> Refused:
    """The refusal that tells a client of an error. ``masks`` are what it need not know, and what to say instead."""
    message = str(error)
    for secret, shown in (masks or {}).items():
        message = message.replace(secret, shown)
    match error:
        case Refused():
            return error
        case LimitError():
            return Refused(400, message, code="invalid_limit", param=f"fathom.{_LIMITS.get(error.limit, error.limit)}")
        case SpecError():
            return Refused(400, message, code="invalid_strategy", param="fathom.strategy")
        case CapabilityError():
            return Refused(400, message, code="unsupported_by_model", param="model")
        case PromptTooLong():
            return Refused(400, message, code="context_length_exceeded", param="messages")
        case UnknownModel():
            return Refused(404, message, code="model_not_found", param="model")
        case UsageError():
            return Refused(400, message, code="invalid_value")
        case NoAnswer():
            return Refused(504, message, code="no_answer", again=False)
        case UpstreamError(status=429):
            return Refused(429, message, code="upstream_rate_limit", retry_after=1.0)
        case UpstreamError(status=400 | 413 | 422):
            return Refused(400, message, code="upstream_refused")
        case UpstreamError():
            return Refused(502, message, code="upstream_failed", again=error.retryable)
        case FathomError():
            return Refused(500, message, code="engine_failed", again=False)
        case _:
            return Refused(500, "the gateway itself failed; its log tells why", code="internal_error", again=False)


_LIMITS = {"seconds": "within", "memory_bytes": "memory"}
