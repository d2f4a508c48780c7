"""What an error status means: which class of error it is, and whether and when to try again.

The rules are those of the official clients (openai 3.54, `_base_client.py`): `x-should-retry` wins,
then the status; `retry-after-ms`, then `retry-after` in seconds, then as an HTTP date. What is a
matter of money is never tried again.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from tracemill.errors import CallFailed

_TYPES = {
    400: "invalid_request",
    401: "authentication",
    402: "billing",
    403: "permission_denied",
    404: "not_found",
    408: "timeout",
    409: "conflict",
    413: "request_too_large",
    422: "invalid_request",
    429: "rate_limited",
    498: "authentication",
    499: "interrupted",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}
_PASSING = {"timeout", "conflict", "rate_limited", "overloaded", "server_error", "connection"}


def failed(
    status: int,
    headers: Mapping[str, str],
    message: str,
    *,
    code: str | None = None,
    error_type: str | None = None,
    request_id: str | None = None,
    retry_after_s: float | None = None,
) -> CallFailed:
    """The error that an answer stands for.

    Args:
        status: of HTTP, or what the body says instead where the status is 200. Below 400, as for
            an error within a stream, the class of the error decides whether to try again.
        headers: names in lower case.
        message: the provider's own sentence.
        code: the provider's word for the error.
        error_type: ours, where the body tells more than the status does; `billing` is final.
        retry_after_s: where the body tells it and no header does.
    """
    kind = (
        error_type or _TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request")
    )
    told = retry_after(headers)
    return CallFailed(
        kind,
        message,
        status=status,
        code=code,
        request_id=request_id,
        retry=_retriable(status, headers, kind),
        retry_after_s=retry_after_s if told is None else told,
    )


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the server asks to wait for; None where it does not say, or says nonsense.

    Args:
        headers: names in lower case.
        now: what an HTTP date is counted from, the present when None.
    """
    for name, scale in (("retry-after-ms", 1000), ("retry-after", 1)):
        if name not in headers:
            continue
        try:
            told = float(headers[name]) / scale
        except ValueError:
            continue
        if math.isfinite(told):
            return max(told, 0.0)
    try:
        until = parsedate_to_datetime(headers["retry-after"])
        until = until.replace(tzinfo=until.tzinfo or UTC)
        return max((until - (now or datetime.now(UTC))).total_seconds(), 0.0)
    except (KeyError, ValueError, OverflowError, IndexError, TypeError):
        return None


def _retriable(status: int, headers: Mapping[str, str], kind: str) -> bool:
    if kind == "billing":
        return False
    match headers.get("x-should-retry", "").strip().lower():
        case "true":
            return True
        case "false":
            return False
        case _ if status < 400:
            return kind in _PASSING
        case _:
            return status in {408, 409, 429} or status >= 500
