"""Which requests are the same, which answers may be given again, and how an answer is kept."""

import hashlib
import json
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from tracemill.errors import CallFailed
from tracemill.messages import Reasoning, Request, Response, Text, parts_of

NOT_IN_KEY = frozenset(
    {
        *(
            "metadata",
            "conversation_id",
            "user_id",
            "key_id",
            "prompt_name",
            "prompt_version",
        ),  # labels
        "stream",  # how the answer travels
        *("service_tier", "prompt_cache"),  # what it costs and how soon it comes
    }
)
"""The fields of a request that do not change its answer. Every other field is part of the key, also
those that are added in the future. In particular an answer is shared between users: the key has what
they asked, not who they are."""
_FORMAT = "tracemill response 1"


def key(request: Request, base_url: str = "") -> str:
    """The request's name in the cache: SHA-256 of its canonical JSON, as 64 hex digits.

    The same in every process and on every machine. The order of names within a JSON Schema counts,
    because models write their answers in that order.

    Args:
        base_url: where the model is, where it may be somewhere else under the same name.

    Raises `CallFailed` (`invalid_request`) when a schema holds what is not JSON.
    """
    fields: dict[str, Any] = request.model_dump(exclude={*NOT_IN_KEY, "messages"})
    fields["messages"] = [
        {"role": message.role, "parts": [part.model_dump() for part in parts_of(message.content)]}
        for message in request.messages
    ]
    try:
        canonical = json.dumps([_FORMAT, base_url, fields], separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise CallFailed(
            "invalid_request",
            f"a schema of the request is not JSON ({error}): build `tools` and `response_schema` "
            "from dicts, lists, strings, numbers, booleans and None",
        ) from error
    return hashlib.sha256(canonical.encode()).hexdigest()


def storable(response: Response) -> bool:
    """Whether an answer may be given again: whole, not empty, not refused, its usage known."""
    said = any(
        not isinstance(part, Reasoning)
        and not (isinstance(part, Text) and not part.content.strip())
        for part in response.parts
    )
    whole = bool(response.finish_reasons) and set(response.finish_reasons) <= {"stop", "tool_call"}
    return said and whole and response.refusal is None and not response.usage.estimated


def written(response: Response) -> bytes | None:
    """An answer as JSON; None where it may not be kept, or holds what JSON cannot say."""
    if not storable(response):
        return None
    try:
        return response.model_dump_json().encode()
    except (PydanticSerializationError, UnicodeEncodeError):
        return None


def read_back(text: bytes | str) -> Response | None:
    """The answer that `written` wrote; None where it is none, such as one of an older version."""
    try:
        response = Response.model_validate_json(text)
    except ValidationError:
        return None
    return response if storable(response) else None
