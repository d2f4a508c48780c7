"""How OpenAI's clients want to be spoken to, whatever they ask for."""

from collections.abc import Mapping
from mimetypes import guess_type
from typing import Any

from tracemill.messages import Json, Logprob, Part
from tracemill.server.dialects.forms import attached
from tracemill.server.files import PREFIX
from tracemill.server.routes import Dialect
from tracemill.server.trouble import Trouble

_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
_TIERS = ("auto", "default", "flex", "scale", "priority", "fast")


def error(trouble: Trouble, request_id: str) -> Mapping[str, Any]:
    """The body of an error."""
    usual = "server_error" if trouble.status >= 500 else "invalid_request_error"
    return {
        "error": {
            "message": trouble.message,
            "type": _TYPES.get(trouble.status, usual),
            "param": trouble.param,
            "code": trouble.code or trouble.error_type,
        }
    }


OPENAI = Dialect("openai", "openai", error)


def tier(name: str | None) -> str:
    """What an answer was served as, in OpenAI's words; another provider's word is `default`."""
    return name if name in _TIERS else "default"


def likely(token: Logprob) -> Json:
    """A token, and how likely it was."""
    raw = list(token.token.encode(errors="replace"))
    return {"token": token.token, "bytes": raw, "logprob": token.logprob}


def file_of(told: str, filename: str | None) -> Part:
    """A file as OpenAI's clients give it: an id, a `data:` address, or base64 alone, whose kind the
    name says."""
    if told.startswith((PREFIX, "data:", "https:")):
        return attached(told, name=filename)
    kind = guess_type(filename or "")[0] or "application/pdf"
    return attached(f"data:{kind};base64,{told}", kind, filename)
