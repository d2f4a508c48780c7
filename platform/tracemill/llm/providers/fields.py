"""Fields out of JSON that nobody promised: what is missing or of another type reads as empty.

Providers change their answers without notice; an adapter never fails over a field that it can do
without, and says `malformed_response` where it cannot.
"""

import json
from typing import Any, cast

from pydantic_core import from_json

from tracemill.errors import CallFailed
from tracemill.messages import Json


def decoded(data: bytes) -> Any:
    """The value of a JSON text. Raises `ValueError`.

    Halves of characters, where an answer was cut within one, are made whole; Python's own parser
    takes them and a byte order mark, the faster one refuses both.
    """
    try:
        return from_json(data)
    except ValueError as error:
        try:
            return json.loads(text(json.dumps(json.loads(data), ensure_ascii=False)))
        except (ValueError, RecursionError):
            raise error from None


def parsed(data: str | bytes, what: str) -> Json:
    """The JSON object in a text. `what` names the text in the error.

    Raises `CallFailed` with `malformed_response` where it is none.
    """
    try:
        return known(json.loads(data), what)
    except (ValueError, RecursionError):
        start = data[:80] if isinstance(data, str) else data[:80].decode(errors="replace")
        raise malformed(f"{what} is not JSON: it begins with {start!r}") from None


def known(value: Any, what: str) -> Json:
    """The value as a JSON object. Raises `CallFailed` with `malformed_response`."""
    if not isinstance(value, dict):
        raise malformed(f"{what} is a {type(value).__name__}, not a JSON object")
    return cast(Json, value)


def malformed(message: str) -> CallFailed:
    """The error for an answer that is not what it should be."""
    return CallFailed("malformed_response", message)


def obj(value: Any) -> Json:
    """A JSON object; else an empty one."""
    return cast(Json, value) if isinstance(value, dict) else {}


def objects(value: Any) -> list[Json]:
    """The JSON objects in a list; else none."""
    if not isinstance(value, list):
        return []
    return [cast(Json, one) for one in cast(list[Any], value) if isinstance(one, dict)]


def text(value: Any) -> str:
    """A text; else an empty one. Halves of characters, which no file can hold, are made whole."""
    if not isinstance(value, str):
        return ""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value


def count(value: Any) -> int:
    """A number of things; else 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 10**15:
        return 0
    return int(value)
