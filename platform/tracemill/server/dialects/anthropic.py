"""How Anthropic's clients want to be spoken to, whatever they ask for."""

import re
from collections.abc import Mapping
from typing import Any

from tracemill.llm.providers.anthropic_request import OLD_VERSION, VERSION
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Dialect
from tracemill.server.trouble import Trouble, invalid

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def error(trouble: Trouble, request_id: str) -> Mapping[str, Any]:
    """The body of an error."""
    usual = "api_error" if trouble.status >= 500 else "invalid_request_error"
    kind = _TYPES.get(trouble.status, usual)
    said: dict[str, Any] = {"type": kind, "message": trouble.message}
    if trouble.code and trouble.code.startswith("thread_"):
        said["details"] = {"error_code": trouble.code}
    return {"type": "error", "error": said, "request_id": request_id}


ANTHROPIC = Dialect("anthropic", "anthropic", error, "request-id")


def version(asked: Incoming) -> str:
    """The version of the API that a request is written in; the older one where it says nothing.

    Raises `Trouble` (400) where the header is no date.
    """
    given = asked.headers.get("anthropic-version", OLD_VERSION).strip()
    if not _DATE.fullmatch(given):
        raise invalid(f"anthropic-version: {given[:40]!r} is not a version: {VERSION} is one")
    return VERSION if given >= VERSION else OLD_VERSION
