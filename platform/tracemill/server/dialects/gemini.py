"""How Gemini's clients want to be spoken to, whatever they ask for."""

from collections.abc import Mapping
from typing import Any

from tracemill.server.routes import Dialect
from tracemill.server.trouble import Trouble

_WORDS = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    402: "FAILED_PRECONDITION",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
_RETRY = "type.googleapis.com/google.rpc.RetryInfo"


def error(trouble: Trouble, request_id: str) -> Mapping[str, Any]:
    """The body of an error; this API tells in it, not in headers, when to try again."""
    status = trouble.status
    usual = "INTERNAL" if status >= 500 else "INVALID_ARGUMENT"
    told: dict[str, Any] = {
        "code": status,
        "message": trouble.message,
        "status": _WORDS.get(status, usual),
    }
    if trouble.retry_after_s is not None:
        told["details"] = [{"@type": _RETRY, "retryDelay": f"{trouble.retry_after_s:.3f}s"}]
    return {"error": told}


GEMINI = Dialect("gemini", "gemini", error)
