"""What went wrong with a request to the server, in one form: each dialect says it in its own words.

The status of a provider is handed on, so that an SDK raises what it would raise without us.
"""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from tracemill.errors import (
    BudgetExceeded,
    CallFailed,
    InputError,
    KeyReused,
    LogError,
    QueueUnreachable,
    TracemillError,
    UsageError,
)

_SOON_S = 60
_STATUSES: Mapping[str, int] = {
    "invalid_request": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "guard": 400,
    "unknown_provider": 404,
    "unknown_model": 404,
    "missing_key": 401,
    "authentication": 401,
    "billing": 402,
    "permission_denied": 403,
    "not_found": 404,
    "conflict": 409,
    "request_too_large": 413,
    "no_answer": 422,
    "limit_reached": 429,
    "rate_limited": 429,
    "interrupted": 499,
    "malformed_response": 502,
    "connection": 502,
    "circuit_open": 503,
    "overloaded": 503,
    "timeout": 504,
}


class Trouble(Exception):
    """A request that gets no answer but an error; its text is for the caller."""

    def __init__(
        self,
        status: int,
        error_type: str,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry: bool = False,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`error_type` is one of `CallFailed`'s; `param` the field that is wrong."""
        super().__init__(message)
        self.status, self.error_type, self.message = status, error_type, message
        self.param, self.code = param, code
        self.retry, self.retry_after_s = retry, retry_after_s
        self.headers = headers or {}

    def said(self) -> dict[str, str]:
        """The headers by which the official SDKs decide whether and when to try again."""
        told = {"x-should-retry": "true" if self.retry else "false", **self.headers}
        if self.retry_after_s is not None:
            told["retry-after-ms"] = str(math.ceil(self.retry_after_s * 1000))
            told["retry-after"] = str(math.ceil(self.retry_after_s))
        return told


def invalid(message: str, param: str | None = None) -> Trouble:
    """The caller's request is wrong."""
    return Trouble(400, "invalid_request", message, param=param)


def missing(message: str) -> Trouble:
    """What was asked for is not there."""
    return Trouble(404, "not_found", message)


def of(error: Exception) -> Trouble:
    """The trouble that an error of ours means for whoever asked."""
    match error:
        case Trouble():
            return error
        case CallFailed():
            return _failed(error)
        case BudgetExceeded():
            # An SDK would wait for its few seconds and try again, for nothing where a day is used up.
            retry = error.reset_s <= _SOON_S
            return Trouble(
                429,
                "limit_reached",
                str(error),
                code=error.error_type,
                retry=retry,
                retry_after_s=error.reset_s,
                headers={"x-tracemill-budget": error.budget},
            )
        case ValidationError():
            return _wrong(error)
        case KeyReused():
            return Trouble(409, "conflict", str(error), param="idempotency-key")
        case QueueUnreachable():
            return Trouble(503, "overloaded", str(error), retry=True)
        case InputError() | UsageError():
            return invalid(str(error))
        case LogError():
            # Without its event a call is not made: it may be tried again when the disk has room.
            return Trouble(503, "overloaded", f"the log cannot be written: {error}", retry=True)
        case TracemillError():
            return Trouble(500, "internal_error", str(error))
        case _:
            # Its words may quote what somebody sent.
            return Trouble(
                500, "internal_error", "the server broke on this request; its log has why"
            )


def _failed(error: CallFailed) -> Trouble:
    status = error.status if error.status and error.status >= 400 else None
    return Trouble(
        status or _STATUSES.get(error.error_type, 500),
        error.error_type,
        str(error),
        code=error.code,
        retry=error.retry,
        retry_after_s=error.retry_after_s,
    )


def _wrong(error: ValidationError) -> Trouble:
    """Of several things the one that lies deepest; of a union, the member that came furthest."""
    first: Any = max(error.errors(include_url=False), key=lambda each: len(each["loc"]))
    if first["type"] == "json_invalid":
        return invalid(f"the body is not JSON: {first['ctx']['error']}")
    where = ".".join(str(step) for step in first["loc"] if not _is_label(step))
    given = "" if first["type"] == "missing" else f", not {repr(first['input'])[:60]}"
    message = first["msg"].removeprefix("Value error, ")
    return invalid(f"{where or 'the body'}: {message}{given}", where or None)


def _is_label(step: object) -> bool:
    """Whether a step is pydantic's name for the member of a union: a type, or a form of ours."""
    if not isinstance(step, str):
        return False
    plain = step.removeprefix("constrained-")
    return "[" in step or plain in {"str", "int", "float", "bool"} or step[:1].isupper()
