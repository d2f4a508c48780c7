"""Errors in OpenAI's form, and in the forms that servers which speak its language make of it.

The body is `{"error": {message, type, code}}`; `error` may also be a text beside a `code`, and the
message may stand alone, be called `detail`, be a list of complaints, or be a page of HTML.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from tracemill.errors import CallFailed
from tracemill.llm.providers.fields import obj, text
from tracemill.llm.trouble import failed
from tracemill.messages import Json

_MONEY = {
    "insufficient_quota",
    "insufficient_balance",
    "billing_hard_limit_reached",
    "billing_not_active",
    "credit_balance_exhausted",
    "organization_usage_limit_exceeded",
}
_CLASSES = {
    "context_length_exceeded": "context_length_exceeded",
    "too_many_prompt_tokens": "context_length_exceeded",
    "exceed_context_size_error": "context_length_exceeded",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "image_content_policy_violation": "content_filter",
    "ResponsibleAIPolicyViolation": "content_filter",
    "bio_policy": "content_filter",
    "cyber_policy": "content_filter",
    "invalid_prompt": "content_filter",
    "invalid_api_key": "authentication",
    "wrong_api_key": "authentication",
    "model_not_found": "unknown_model",
    "DeploymentNotFound": "unknown_model",
    "server_is_overloaded": "overloaded",
}
# For those who have no code for it.
_SAYS = (
    (
        re.compile(
            r"maximum context length|context (window|size|length)|prompt (is )?too long"
            r"|total length of all messages is too long|too large for model with \d+ maximum",
            re.IGNORECASE,
        ),
        "context_length_exceeded",
    ),
    (re.compile(r"(incorrect|invalid|missing) api[ -]key", re.IGNORECASE), "authentication"),
    (
        re.compile(r"model .{0,200}(not found|does not exist)|invalid model", re.IGNORECASE),
        "unknown_model",
    ),
)
_CALLERS_FAULT = {400, 404, 413, 422}
# What an error within an answer or a stream would have been as a status of HTTP.
_STATUS = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "slow_down": 429,
    "insufficient_quota": 429,
    "server_error": 500,
    "vector_store_timeout": 504,
    "server_is_overloaded": 503,
}
_CALLER = ("invalid_", "image_", "unsupported_", "empty_image", "failed_to_download", "bio_policy")
_LONGEST = 2_000


def error(status: int, headers: Mapping[str, str], body: bytes) -> CallFailed:
    """What an answer with an error status says. Header names are lower case."""
    words = body.decode(errors="replace").strip()
    try:
        said = json.loads(words)
    except (ValueError, RecursionError):
        said = _page(words)
    if isinstance(said, list) and said:
        said = cast(list[Any], said)[0]
    return _failed(status, headers, obj(said) or {"error": said})


def failed_within(said: Json) -> CallFailed:
    """What an error says that came within an answer or a stream with status 200."""
    return _failed(None, {}, said)


def _failed(status: int | None, headers: Mapping[str, str], said: Json) -> CallFailed:
    """The error in a body; without a status, the one that its code stands for."""
    told = obj(said.get("error"))
    code = _code(told.get("code")) or _code(said.get("code"))
    kind = text(told.get("type")) or text(said.get("type"))
    message = _message(told, said) or f"the provider failed with {code or kind or status or '?'}"
    status = _status(told or said, code, kind) if status is None else status
    inner = text(obj(told.get("innererror")).get("code"))
    if "flagged_input" in obj(told.get("metadata")):
        inner = "content_filter"  # OpenRouter, for a model whose input is moderated
    return failed(
        status,
        headers,
        message[:_LONGEST],
        code=code or kind or None,
        error_type=_class(status, (code, kind, inner), message),
        request_id=headers.get("x-request-id") or headers.get("apim-request-id"),
    )


def _message(told: Json, said: Json) -> str:
    """The provider's sentence, with that of the provider behind it, where OpenRouter has one."""
    for one in (told.get("message"), said.get("error"), said.get("message"), said.get("detail")):
        if words := _sentence(one):
            behind = text(obj(told.get("metadata")).get("raw")).strip()
            return f"{words}: {behind}" if behind else words
    return ""


def _sentence(one: Any) -> str:
    """A text; or the complaints of a validator, which come as a list of objects."""
    if isinstance(one, list):
        return "; ".join(filter(None, map(_sentence, cast(list[Any], one))))
    if isinstance(one, dict):
        complaint = obj(one)
        where = complaint.get("loc")
        place = ".".join(map(str, cast(list[Any], where))) if isinstance(where, list) else ""
        words = text(complaint.get("msg")) or _sentence(complaint.get("detail"))
        return f"{place}: {words}" if place and words else words
    return text(one).strip()


def _page(words: str) -> Json:
    """What a page of a proxy says: its title, else how it begins."""
    title = re.search(r"<(title|h1)[^>]*>\s*([^<]+)", words, re.IGNORECASE)
    return {"message": title[2].strip() if title else words[:300]}


def _code(value: Any) -> str:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(value)


def _status(told: Json, code: str, kind: str) -> int:
    for given in (told.get("status"), told.get("status_code"), told.get("code")):
        if isinstance(given, int) and 400 <= given < 600:
            return given
    if code.startswith(_CALLER):
        return 400
    return _STATUS.get(code) or _STATUS.get(kind) or 500


def _class(status: int, words: tuple[str, ...], message: str) -> str | None:
    """The class of an error, where its body tells more than the status."""
    if any(word in _MONEY or word.endswith("_spend_limit_exceeded") for word in words):
        return "billing"
    if told := next((_CLASSES[word] for word in words if word in _CLASSES), None):
        return told
    if status not in _CALLERS_FAULT:
        return None
    return next((kind for says, kind in _SAYS if says.search(message)), None)
